/* SPDX-License-Identifier: MIT */
/*
 * history_rings.h - what the actors of history.h do on rings that each producer takes one of: all produce,
 * to whatever ring they get; some consume from one, others read there. Each ring has its own history, as
 * one of a single producer and consumer.
 */
#ifndef HISTORY_RINGS_H
#define HISTORY_RINGS_H

#define HISTORY_RINGS 3u /* as many as a producer tries, less one: some find all taken */

static volatile __u32 history_each[ADS_RINGS_MOST];

/* Copy from the arena where the rings are. Nobody is at work yet. */
ADS_GLOBAL int history_rings_know(__u64 words)
{
	struct ads_arena *a = ads_here();
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_RINGS_MOST; i++)
		history_each[i] = (__u32)ads_load(ads_at(a, __u64, words + 8 * i));
	return 0;
}

/* Say in *c which of them it was. */
static ADS_INLINE void history_rings_was(struct history_call *c, __u32 ring)
{
	__u64 i;

	c->structure = ring;
	c->key = 0;
	for (i = 0; i < HISTORY_RINGS; i++)
		if (history_each[i] == ring)
			c->key = i;
}

/* HISTORY_REFUSED: it is full, or all that were tried are taken, and it does not say which it is. */
ADS_GLOBAL int history_rings_produce(struct history_call *c)
{
	struct ads_arena *a = ads_here();
	struct ads_rings_draft draft;
	__u32 place = 0, length, i;
	int rc;

	if (!c)
		return ADS_INVALID;
	length = history_length(c->in);
	ads_forget(length);
	rc = ads_rings_reserve(a, history_each, 0, length, &draft, &place);
	if (rc)
		return rc == ADS_FULL ? HISTORY_REFUSED : rc;
	history_rings_was(c, draft.ring);
	for (ads_each(i, ADS_WORDS(length)))
		ads_store(ads_words_at(a, place) + i, history_ring_word(c->in, i));
	if (c->operation != HISTORY_DISCARD)
		return ads_rings_submit(a, 0, &draft);
	ads_rings_discard(a, &draft);
	return ADS_OK;
}

/* The same, copied. */
ADS_GLOBAL int history_rings_push(struct history_call *c)
{
	__u64 words[HISTORY_PUSHED / 8];
	__u32 ring = 0, i;
	int rc;

	if (!c)
		return ADS_INVALID;
	for (i = 0; i < HISTORY_PUSHED / 8; i++)
		words[i] = history_ring_word(c->in, i);
	rc = ads_rings_push_to(ads_here(), history_each, 0, words, HISTORY_PUSHED, &ring);
	history_rings_was(c, ring);
	return rc == ADS_FULL ? HISTORY_REFUSED : rc;
}

/* Take a ring, and do there what a producer does. */
ADS_GLOBAL int history_rings_inside(struct history_call *c)
{
	struct ads_arena *a = ads_here();
	__u32 ring = 0;
	int rc;

	if (!c)
		return ADS_INVALID;
	if (ads_rings_enter(a, history_each, &ring))
		return HISTORY_REFUSED;
	history_rings_was(c, ring);
	rc = c->operation == HISTORY_PUBLISH ? history_ring_publish(c)
					     : history_ring_produce(c, c->operation == HISTORY_PUSH);
	ads_rings_leave(a, ring);
	return rc;
}

static ADS_INLINE void history_step_rings(struct ads_arena *a, struct history_actor __arena *me)
{
	struct history_call c = history_choose_ring(me);
	__u64 random = history_random(me), invoked;
	int code;

	if (c.operation == HISTORY_TAKE && !c.structure) { /* it consumes from none */
		__u64 ring = me->reads[random & 1];

		c.operation = HISTORY_FIRST;
		c.key = ring >> 32;
		c.structure = (__u32)ring;
	}
	if (c.operation == HISTORY_TAKE && random & 1) {
		history_ring_batch((__u64)(unsigned long)me & 0xffffffff, &c, 1 + random % HISTORY_BATCH);
		return;
	}
	if (c.operation == HISTORY_PUSH && random % 3 == 1)
		c.in = (c.in & ~255ull) | HISTORY_PUSHED;
	invoked = history_tick(a, me);
	if (c.operation == HISTORY_TAKE)
		code = history_ring_take(&c);
	else if (c.operation == HISTORY_FIRST)
		code = history_ring_first(&c);
	else if (c.operation == HISTORY_PUSH && random % 3 == 1)
		code = history_rings_push(&c);
	else if ((c.operation == HISTORY_PUSH || c.operation == HISTORY_DISCARD) && random % 3)
		code = history_rings_produce(&c);
	else
		code = history_rings_inside(&c);
	if (code == HISTORY_REFUSED)
		me->refused++;
	else
		history_log(a, me, &c, code, invoked, history_tick(a, me));
}

#endif /* HISTORY_RINGS_H */
