/* SPDX-License-Identifier: MIT */
/*
 * history_ordered.h - what the actors of history.h do on an ordered map of integers. Each operation is a
 * function of its own, as in programs (bpf.h): the verifier looks at it once.
 */
#ifndef HISTORY_ORDERED_H
#define HISTORY_ORDERED_H

static ADS_INLINE struct ads_ref history_ordered_ref(__u64 structure)
{
	struct ads_ref ref = {(__u32)structure, 0, sizeof(struct history_value), ADS_LIVES};

	return ref;
}

ADS_GLOBAL __s64 history_ordered_find(const struct history_call *c)
{
	__u32 entry = 0;
	int rc;

	if (!c)
		return ADS_INVALID;
	rc = ads_orderedmap_find(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_seek_integer, c->key, 0, &entry);
	return rc ? (__s64)rc : (__s64)entry;
}

ADS_GLOBAL int history_ordered_get(struct history_call *c)
{
	struct history_value value;
	int rc;

	if (!c)
		return ADS_INVALID;
	rc = ads_orderedmap_get(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_seek_integer, c->key, 0, &value);
	return rc ? rc : history_found(c, &value);
}

ADS_GLOBAL int history_ordered_store(const struct history_call *c, __u32 mode, struct ads_walk *w)
{
	struct history_value value;

	if (!c || !w)
		return ADS_INVALID;
	value = history_value_of(c->operation == HISTORY_ADD ? HISTORY_COUNT_FROM : c->in);
	return ads_orderedmap_store(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_seek_integer, c->key, 0,
				    &value, (enum ads_update_mode)mode, w);
}

/* Who holds the key now, or an error. An operation that looked first is content with another who was faster. */
ADS_GLOBAL __s64 history_ordered_update(const struct history_call *c, __u32 mode)
{
	struct ads_walk w = ads_walk_from(0);
	__s64 entry;
	int rc;

	if (!c)
		return ADS_INVALID;
	rc = history_ordered_store(c, mode, &w);
	entry = w.start;
	if (!rc)
		ads_orderedmap_build(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_raise_integer, c->key, 0,
				     &w);
	if (rc == ADS_EXISTS && c->operation != HISTORY_INSERT)
		rc = ADS_OK;
	return rc ? (__s64)rc : entry;
}

ADS_GLOBAL int history_ordered_pop(struct history_call *c, __u32 look)
{
	struct history_value value;
	int rc;

	if (!c)
		return ADS_INVALID;
	rc = ads_orderedmap_pop(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_seek_integer, c->key, 0,
				look ? &value : 0);
	return rc || !look ? rc : history_found(c, &value);
}

ADS_GLOBAL int history_ordered_pop_first(struct history_call *c)
{
	struct history_value value;
	__u64 order = 0;
	int rc;

	if (!c)
		return ADS_INVALID;
	rc = ads_orderedmap_pop_first(ads_here(), history_ordered_ref(c->structure), ads_orderedmap_seek_integer, &order, 0,
				      &value);
	c->key = order;
	return rc ? rc : history_found(c, &value);
}

/* In the caller's frame: there are 512 bytes for all of them. */
static ADS_INLINE int history_on_ordered(struct history_call *c)
{
	struct ads_arena *a = ads_here();
	__s64 entry = ADS_INVALID;

	(void)a;
	switch (c->operation) {
	case HISTORY_GET:
		return history_ordered_get(c);
	case HISTORY_FIND:
		entry = history_ordered_find(c);
		break;
	case HISTORY_DELETE:
	case HISTORY_POP:
		return history_ordered_pop(c, c->operation == HISTORY_POP);
	case HISTORY_POP_FIRST:
		return history_ordered_pop_first(c);
	case HISTORY_LOOKUP_OR_INSERT: /* as bpf.h does it */
	case HISTORY_ADD:
		entry = history_ordered_find(c);
		if (entry == ADS_ABSENT)
			entry = history_ordered_update(c, ADS_INSERT);
		if (c->operation == HISTORY_ADD && entry > 0)
			c->out = ads_add(ads_at(a, __u64, (__u32)entry + ads_entry_value_offset(history_ordered_ref(0))),
					 c->in);
		break;
	case HISTORY_INSERT:
		entry = history_ordered_update(c, ADS_INSERT);
		break;
	case HISTORY_REPLACE:
		entry = history_ordered_update(c, ADS_REPLACE);
		break;
	case HISTORY_UPDATE:
		entry = history_ordered_update(c, ADS_ANY);
	}
	return entry > 0 ? ADS_OK : (int)entry;
}

HISTORY_SCAN_OF(ordered, ads_orderedmap_scan(a, ref, &scan),
		ads_orderedmap_next(a, ref, ads_orderedmap_seek_integer, &scan, 0, 0, &value, &entry), 0, HISTORY_VALUE_BYTES,
		ADS_LIVES)

static ADS_INLINE int history_begin_ordered(struct ads_arena *a, const struct history_call *c, struct ads_scan *scan)
{
	return ads_orderedmap_scan_from(a, history_ordered_ref(c->structure), ads_orderedmap_seek_integer, scan, c->in, 0, 0);
}

static ADS_INLINE int history_next_ordered(struct ads_arena *a, struct history_call *c, struct ads_scan *scan)
{
	struct history_value value;
	__u32 entry;
	int rc = ads_orderedmap_next(a, history_ordered_ref(c->structure), ads_orderedmap_seek_integer, scan, 0, 0, &value, &entry);

	c->key = scan->hash;
	return rc ? rc : history_found(c, &value);
}

HISTORY_RANGE_OF(ordered)

#endif /* HISTORY_ORDERED_H */
