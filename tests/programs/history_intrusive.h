/* SPDX-License-Identifier: MIT */
/*
 * history_intrusive.h - what the actors of history.h do on two intrusive lists of the same nodes. All
 * of them may link any node into either list, and take it out.
 *
 *	me->node_words	+--------+--------+----
 *			| node 1 | node 2 | ...		offsets of nodes; the word before a node is its number
 *			+--------+--------+----
 */
#ifndef HISTORY_INTRUSIVE_H
#define HISTORY_INTRUSIVE_H

static ADS_INLINE struct ads_ref history_intrusive_ref(const struct history_call *c)
{
	struct ads_ref ref = {(__u32)c->structure, 0, 0, 0};

	return ref;
}

/* Which node was found, in c->out. */
static ADS_INLINE int history_node_found(struct ads_arena *a, struct history_call *c, int rc, __u32 node)
{
	(void)a;
	c->out = rc ? 0 : ads_load(ads_at(a, __u64, node - 8));
	return rc;
}

ADS_GLOBAL int history_on_intrusive(struct history_call *c, __u32 node)
{
	struct ads_arena *a = ads_here();
	__u64 order = 0;
	__u32 found = 0;
	int rc = ADS_INVALID;

	if (!c)
		return ADS_INVALID;
	switch (c->operation) {
	case HISTORY_PUSH:
		rc = ads_intrusive_push(a, history_intrusive_ref(c), node, &order);
		c->key = order;
		return rc;
	case HISTORY_INSERT:
		return ads_intrusive_insert(a, history_intrusive_ref(c), c->key, node);
	case HISTORY_REMOVE:
		return ads_intrusive_remove(a, history_intrusive_ref(c), node);
	case HISTORY_CONTAINS:
		rc = ads_intrusive_contains(a, history_intrusive_ref(c), node, &order);
		c->key = order;
		return rc;
	case HISTORY_GET:
		rc = ads_intrusive_find(a, history_intrusive_ref(c), c->key, &found);
		break;
	case HISTORY_POP:
		rc = ads_intrusive_pop(a, history_intrusive_ref(c), c->key, &found);
		break;
	case HISTORY_FIRST: /* the lower bound of all */
		rc = ads_intrusive_first(a, history_intrusive_ref(c), &order, &found);
		c->operation = HISTORY_LOWER_BOUND;
		c->in = 0;
		c->key = order;
		break;
	case HISTORY_POP_FIRST:
		rc = ads_intrusive_pop_first(a, history_intrusive_ref(c), &order, &found);
		c->key = order;
	}
	return history_node_found(a, c, rc, found);
}

static ADS_INLINE int history_begin_intrusive(struct ads_arena *a, const struct history_call *c, struct ads_scan *scan)
{
	return ads_scan_after(a, scan, ads_list_head(history_intrusive_ref(c)), c->in - 1);
}

static ADS_INLINE int history_next_intrusive(struct ads_arena *a, struct history_call *c, struct ads_scan *scan)
{
	__u32 node = 0;
	int rc = ads_intrusive_next(a, history_intrusive_ref(c), scan, &node);

	c->key = scan->hash;
	return history_node_found(a, c, rc, node);
}

HISTORY_RANGE_OF(intrusive)

static ADS_INLINE void history_step_intrusive(struct ads_arena *a, struct history_actor __arena *me)
{
	struct history_call c = history_choose(me);
	__u64 random = history_random(me), nodes = me->nodes, invoked;
	__u32 node = 0;
	int code;

	c.list = random & 1;
	c.structure = (__u32)me->pushes[c.list];
	if (c.operation == HISTORY_RANGE) {
		history_range_intrusive((__u64)(unsigned long)me & 0xffffffff, &c, HISTORY_STEPS);
		return;
	}
	switch (c.operation) {
	case HISTORY_PUSH:
	case HISTORY_INSERT:
	case HISTORY_REMOVE:
	case HISTORY_CONTAINS:
		c.in = nodes ? (random >> 1) % nodes : 0;
		node = (__u32)ads_load(ads_at(a, __u64, me->node_words + 8 * c.in));
		c.in++;
	}
	invoked = history_tick(a, me);
	code = history_on_intrusive(&c, node);
	history_log(a, me, &c, code, invoked, history_tick(a, me));
	if (c.operation == HISTORY_PUSH && !code)
		me->recent = c.key;
}

#endif /* HISTORY_INTRUSIVE_H */
