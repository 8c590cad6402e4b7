/* SPDX-License-Identifier: MIT */
/*
 * history_ring.h - what the actors of history.h do on byte rings: each produces into two, consumes from
 * two others, and reads in two without taking. A value says how long its record is (history_length()),
 * and what is in it.
 */
#ifndef HISTORY_RING_H
#define HISTORY_RING_H

#define HISTORY_PUSHED 24u /* bytes of a record whose length is a constant of the program */
#define HISTORY_ROOM 96u   /* the longest record */
#define HISTORY_SMALL_ROOM 16u
#define HISTORY_BATCH 4u

static ADS_INLINE __u64 history_ring_word(__u64 value, __u64 i)
{
	return value ^ i * 0x9e3779b97f4a7c15ull;
}

/* Those of the bits of word `i` that belong to a record of this length. */
static ADS_INLINE __u64 history_ring_mask(__u32 length, __u32 i)
{
	if (length >= 8 * i + 8)
		return ~0ull;
	return length <= 8 * i ? 0 : (1ull << 8 * (length - 8 * i)) - 1;
}

/* Whether a record of this length is that of the value which it begins with. */
static ADS_INLINE int history_ring_found(struct history_call *c, const __u64 *words, __u32 length)
{
	__u64 wrong = length ^ history_length(words[0]);
	__u32 i;

	c->out = words[0];
	for (i = 0; i < HISTORY_ROOM / 8; i++)
		wrong |= (words[i] ^ history_ring_word(words[0], i)) & history_ring_mask(length, i);
	return wrong ? HISTORY_TORN : ADS_OK;
}

#define HISTORY_RING(kind, options)					       \
	static ADS_INLINE struct ads_ref history_##kind##_ref(__u64 structure) \
	{								       \
		struct ads_ref ref = {(__u32)structure, 0, 0, options};	       \
		return ref;						       \
	}								       \
	/* Reserve room, fill it, and do with it what is asked. */	       \
	ADS_GLOBAL int history_##kind##_produce(const struct history_call *c, __u32 then_publish) \
	{								       \
		struct ads_arena *a = ads_here();			       \
		struct ads_ring_draft draft;				       \
		__u32 place = 0, length, i;				       \
		int rc;							       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		length = history_length(c->in);				       \
		ads_forget(length);					       \
		rc = ads_ring_reserve(a, history_##kind##_ref(c->structure), length, &draft, &place); \
		if (rc)							       \
			return rc;					       \
		for (ads_each(i, ADS_WORDS(length)))			       \
			ads_store(ads_words_at(a, place) + i, history_ring_word(c->in, i)); \
		if (c->operation == HISTORY_DISCARD) {			       \
			ads_ring_discard(&draft);			       \
			return ADS_OK;					       \
		}							       \
		return then_publish ? ads_ring_submit(a, history_##kind##_ref(c->structure), &draft) \
				    : ads_ring_commit(a, history_##kind##_ref(c->structure), &draft); \
	}								       \
	ADS_GLOBAL int history_##kind##_push(const struct history_call *c)     \
	{								       \
		__u64 words[HISTORY_PUSHED / 8];			       \
		__u32 i;						       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		for (i = 0; i < HISTORY_PUSHED / 8; i++)		       \
			words[i] = history_ring_word(c->in, i);		       \
		return ads_ring_push(ads_here(), history_##kind##_ref(c->structure), words, HISTORY_PUSHED); \
	}								       \
	ADS_GLOBAL int history_##kind##_publish(const struct history_call *c)  \
	{								       \
		if (!c)							       \
			return ADS_INVALID;				       \
		return ads_ring_publish(ads_here(), history_##kind##_ref(c->structure)); \
	}								       \
	ADS_GLOBAL int history_##kind##_take(struct history_call *c)	       \
	{								       \
		__u64 words[HISTORY_ROOM / 8] = {0};			       \
		__u32 length = 0;					       \
		int rc;							       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		if (c->in == HISTORY_ROOM)				       \
			rc = ads_ring_pop(ads_here(), history_##kind##_ref(c->structure), words, HISTORY_ROOM, &length); \
		else							       \
			rc = ads_ring_pop(ads_here(), history_##kind##_ref(c->structure), words, HISTORY_SMALL_ROOM, \
					  &length);			       \
		return rc ? rc : history_ring_found(c, words, length);	       \
	}								       \
	/* What is oldest, without taking it. HISTORY_GONE: that was taken meanwhile, and what came behind it. */ \
	ADS_GLOBAL int history_##kind##_first(struct history_call *c)	       \
	{								       \
		__u64 words[HISTORY_ROOM / 8] = {0};			       \
		struct ads_ring_cursor cursor;				       \
		__u32 length = 0;					       \
		int rc;							       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		rc = ads_ring_walk(ads_here(), history_##kind##_ref(c->structure), &cursor); \
		if (rc)							       \
			return rc;					       \
		rc = ads_ring_read(ads_here(), history_##kind##_ref(c->structure), &cursor, words, HISTORY_ROOM, &length); \
		if (rc == ADS_ABSENT)					       \
			return HISTORY_GONE;				       \
		return rc ? rc : history_ring_found(c, words, length);	       \
	}

HISTORY_RING(ring, 0)
HISTORY_RING(overwriting, ADS_OVERWRITE)

/* Read some records in place, and give them up all at once. */
ADS_GLOBAL int history_ring_batch(__u64 actor, struct history_call *c, __u64 most)
{
	struct ads_arena *a = ads_here();
	struct history_actor __arena *me = history_me(a, actor);
	struct ads_ring_cursor batch;
	__u64 words[HISTORY_ROOM / 8];
	__u64 invoked = history_tick(a, me), count;
	__u32 place = 0, length = 0, i;
	int rc;

	(void)a;
	if (!c)
		return ADS_INVALID;
	rc = ads_ring_peek(a, history_ring_ref(c->structure), &batch);
	if (rc) { /* as a pop says it */
		history_log(a, me, c, rc, invoked, history_tick(a, me));
		return 0;
	}
	c->operation = HISTORY_LOOK;
	for (ads_each(count, most)) {
		if (ads_ring_next(a, history_ring_ref(c->structure), &batch, &place, &length))
			break;
		for (i = 0; i < HISTORY_ROOM / 8; i++)
			words[i] = 8 * i < length ? ads_load(ads_words_at(a, place) + i) : 0;
		rc = history_ring_found(c, words, length);
		c->in = count;
		history_log(a, me, c, rc, invoked, history_tick(a, me));
		invoked = history_tick(a, me);
	}
	c->operation = HISTORY_RELEASE;
	c->in = count;
	c->out = 0;
	rc = ads_ring_release(a, history_ring_ref(c->structure), &batch);
	history_log(a, me, c, rc, invoked, history_tick(a, me));
	return 0;
}

/* What to do with a ring, of those that one may do. */
static ADS_INLINE struct history_call history_choose_ring(struct history_actor __arena *me)
{
	static const __u8 produce[] = {HISTORY_PUSH, HISTORY_PUSH, HISTORY_PUSH, HISTORY_APPEND,
				       HISTORY_APPEND, HISTORY_APPEND, HISTORY_PUBLISH, HISTORY_DISCARD};
	struct history_call c = {.operation = HISTORY_TAKE, .in = HISTORY_ROOM};
	__u64 random = history_random(me), spread = me->keys;
	__u64 ring = me->takes[random & 1];

	if (random & 2) {
		ring = me->pushes[random & 1];
		c.operation = produce[random >> 2 & 7];
		c.in = 0;
		if (c.operation != HISTORY_PUBLISH)
			c.in = history_new_value(me) << 8 | (8 + (spread ? (random >> 8) % spread : 0));
	} else if (random & 4 && random & 8) {
		ring = me->reads[random & 1];
		c.operation = HISTORY_FIRST;
	} else if (random & 8 && random & 16) {
		c.in = HISTORY_SMALL_ROOM;
	}
	c.key = ring >> 32;
	c.structure = (__u32)ring;
	return c;
}

#define HISTORY_STEP_RING(kind, batch)					       \
	static ADS_INLINE void history_step_##kind(struct ads_arena *a, struct history_actor __arena *me) \
	{								       \
		struct history_call c = history_choose_ring(me);	       \
		__u64 random = history_random(me), invoked;		       \
		int code;						       \
									       \
		if (c.operation == HISTORY_TAKE && random & 1) {	       \
			batch;						       \
		}							       \
		if (c.operation == HISTORY_PUSH && random & 1)		       \
			c.in = (c.in & ~255ull) | HISTORY_PUSHED;	       \
		invoked = history_tick(a, me);				       \
		if (c.operation == HISTORY_TAKE)			       \
			code = history_##kind##_take(&c);		       \
		else if (c.operation == HISTORY_FIRST)			       \
			code = history_##kind##_first(&c);		       \
		else if (c.operation == HISTORY_PUBLISH)		       \
			code = history_##kind##_publish(&c);		       \
		else if (c.operation == HISTORY_PUSH && random & 1)	       \
			code = history_##kind##_push(&c);		       \
		else							       \
			code = history_##kind##_produce(&c, c.operation == HISTORY_PUSH); \
		history_log(a, me, &c, code, invoked, history_tick(a, me));    \
	}

HISTORY_STEP_RING(ring, history_ring_batch((__u64)(unsigned long)me & 0xffffffff, &c, 1 + random % HISTORY_BATCH); return)
HISTORY_STEP_RING(overwriting, )

#endif /* HISTORY_RING_H */
