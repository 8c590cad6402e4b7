/* SPDX-License-Identifier: MIT */
/*
 * history.h - actors that do random operations on shared structures and write down each one.
 *
 * The same source is a BPF program (history.bpf.c) and a user process (actor.c). What an actor
 * does and how far it has come is a record in the arena, so is what it writes down: its log has
 * one writer and needs no lock.
 *
 *	me->log    +-------+-------+-------+----
 *	           | event | event | event | ...	me->events of at most me->room
 *	           +-------+-------+-------+----
 *
 * Every value stored is another one: the actor's number and a count. All its words follow from
 * the first, so that one made of two values shows.
 *
 * No actor runs ahead of the slowest by more than `lead` operations: however the machine
 * shares its processors out, all of them are at work from the beginning to the end.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include <arenads/bpf.h>

#include "event.h"

#define HISTORY_INTERRUPTS 8u /* number of the actor that interrupts CPU 0 */
#define HISTORY_MOST_EVENTS 80u /* of one operation: an iteration */
#define HISTORY_HANDS 4u

struct history_value {
	__u64 word[4];
};

struct history_actor {
	__u64 number;
	__u64 goal;	 /* operations to do */
	__u64 done;	 /* operations done */
	__u64 log, room; /* offset of the first event, how many fit */
	__u64 events;	 /* how many there are */
	__u64 clock;	 /* offset of the word that tells the time; a line on, struct history_counter */
	__u64 random;
	__u64 values; /* stored so far */
	__u64 lead;
	__u64 parties;	 /* actors below this number are waited for */
	__u64 structure; /* offset */
	__u64 keys;	 /* 0 to keys - 1, of which the last are */
	__u64 counters;	 /* added to in place, and never deleted or replaced */
	__u64 recent;	 /* list: the lowest order that is of interest */
	__u64 window;	 /* array: elements that are of interest at a time, 0: all */
	__u64 nodes;	 /* intrusive list: how many; the offset of the words that tell where they are */
	__u64 node_words;
	__u64 pushes[2], takes[2];   /* queues: {number:32, offset:32}. intrusive: two lists */
	__u64 reads[2];		     /* rings that others push to and take from */
	__u64 hands[HISTORY_HANDS];  /* pool: objects that the actor owns, 0: none */
	__u64 refused;		     /* rings: how often it had no room, and is not told by which */
	__u8 mix[16]; /* enum history_operation, each as likely as the others */
};

/* Objects that change owners: an actor puts one down and takes what lies there. */
struct history_counter {
	__u64 objects[8];
};

/* What one call of record_... is asked. */
struct history_run {
	__u64 actor;
	__u64 operations;
};

enum history_progress { HISTORY_MORE, HISTORY_WAIT, HISTORY_DONE, HISTORY_NO_ACTOR };

ADS_ARENA(16 * ADS_MIB); /* the loader is told the size that it takes */
ADS_HASHMAP(actors, __u64, struct history_actor, HISTORY_ACTORS);

#define history_me(a, actor) ads_at(a, struct history_actor, actor)

/* --- an actor's own affairs --------------------------------------------------------- */

static ADS_INLINE __u64 history_tick(struct ads_arena *a, struct history_actor __arena *me)
{
	(void)a;
	return ads_add(ads_at(a, __u64, me->clock), 1);
}

/* xorshift64 (Marsaglia, 2003). */
static ADS_INLINE __u64 history_random(struct history_actor __arena *me)
{
	__u64 random = me->random;

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	me->random = random;
	return random >> 16;
}

static ADS_INLINE __u64 history_new_value(struct history_actor __arena *me)
{
	__u64 values = me->values + 1;

	me->values = values;
	return (me->number + 1) << 40 | values;
}

static ADS_INLINE struct history_value history_value_of(__u64 first)
{
	struct history_value value = {{first, ~first, first * 3, first ^ first << 32}};

	return value;
}

/* Whether the words behind the first are those of `first`. */
static ADS_INLINE int history_whole(const struct history_value *value, __u64 first)
{
	struct history_value whole = history_value_of(first);

	return value->word[1] == whole.word[1] && value->word[2] == whole.word[2] && value->word[3] == whole.word[3];
}

struct history_call {
	__u64 structure;
	__u64 operation;
	__u64 key;
	__u64 in, out;
	__u64 counters; /* keys from this one on are counters' */
	__u64 list;	/* intrusive: which of the two */
};

static ADS_INLINE void history_log(struct ads_arena *a, struct history_actor __arena *me,
				   const struct history_call *c, int code, __u64 invoked, __u64 returned)
{
	__u64 events = me->events;
	struct history_event __arena *e = ads_at(a, struct history_event, me->log + events * sizeof(*e));

	(void)a;
	e->invoked = invoked;
	e->returned = returned;
	e->operation = (__u16)c->operation;
	e->list = (__u16)c->list;
	e->code = code;
	e->key = c->key;
	e->in = c->in;
	e->out = c->out;
	me->events = events + 1;
}

/* What a read found, in c->out. The first word of a counter is free. */
static ADS_INLINE int history_found(struct history_call *c, const struct history_value *value)
{
	c->out = value->word[0];
	return history_whole(value, c->key >= c->counters ? HISTORY_COUNT_FROM : c->out) ? ADS_OK : HISTORY_TORN;
}

/* Operations that change what a key stands for keep away from the counters. */
static ADS_INLINE struct history_call history_choose(struct history_actor __arena *me)
{
	struct history_call c = {.structure = me->structure, .operation = me->mix[history_random(me) & 15], .counters = ~0ull};
	__u64 keys = me->keys, counters = me->counters;
	__u64 first = 0, count = keys - counters;

	if (c.operation == HISTORY_GET || c.operation == HISTORY_FIND)
		count = keys;
	if (c.operation == HISTORY_ADD) {
		first = keys - counters;
		count = counters;
	}
	if (count)
		c.key = first + history_random(me) % count;
	if (counters)
		c.counters = keys - counters;
	c.key += me->recent;
	switch (c.operation) {
	case HISTORY_ADD:
		c.in = 1;
		break;
	case HISTORY_LOWER_BOUND:
	case HISTORY_RANGE:
		c.in = c.key;
		c.key = 0;
		break;
	case HISTORY_INSERT:
	case HISTORY_REPLACE:
	case HISTORY_UPDATE:
	case HISTORY_LOOKUP_OR_INSERT:
	case HISTORY_PUSH:
		c.in = history_new_value(me);
	}
	return c;
}

static ADS_INLINE enum ads_update_mode history_mode(__u64 operation)
{
	return operation == HISTORY_INSERT ? ADS_INSERT : operation == HISTORY_REPLACE ? ADS_REPLACE : ADS_ANY;
}

/* --- iteration -------------------------------------------------------------------------- */

/*
 * An iteration, as what it says of each key. A key that it returned had that value at some moment
 * of that step. One that it did not return was absent at some moment of the iteration: a key
 * that is there throughout is returned.
 */
#define HISTORY_SCAN_OF(kind, begin, next, key_bytes, value_bytes, map_flags)  \
	ADS_GLOBAL int history_scan_##kind(__u64 actor)			       \
	{								       \
		struct ads_arena *a = ads_here();			       \
		struct history_actor __arena *me = history_me(a, actor);       \
		struct ads_ref ref = {(__u32)me->structure, key_bytes, value_bytes, map_flags}; \
		struct history_call c = {.operation = value_bytes ? HISTORY_GET : HISTORY_FIND}; \
		struct history_value value;				       \
		struct ads_scan scan = {};				       \
		__u64 started = history_tick(a, me);			       \
		__u64 seen = 0, steps, key, last = 0, keys = me->keys;	       \
		__u32 entry;						       \
		int rc = begin;						       \
									       \
		(void)a;						       \
		c.counters = keys - me->counters;			       \
		for (ads_each(steps, HISTORY_MOST_EVENTS / 2)) {	       \
			__u64 invoked = history_tick(a, me);		       \
			int code;					       \
									       \
			if (!rc)					       \
				rc = next;				       \
			if (rc)						       \
				break;					       \
			c.key = last = key_bytes ? key : scan.hash;	       \
			code = value_bytes ? history_found(&c, &value) : ADS_OK; \
			if (c.key >= keys || seen >> (c.key & 63) & 1)	       \
				code = HISTORY_TWICE;			       \
			seen |= 1ull << (c.key & 63);			       \
			history_log(a, me, &c, code, invoked, history_tick(a, me)); \
		}							       \
		c.out = 0;						       \
		if (rc != ADS_ABSENT) {					       \
			history_log(a, me, &c, rc, started, history_tick(a, me)); \
			return rc;					       \
		}							       \
		for (ads_each(key, keys)) {				       \
			c.key = key;					       \
			if (!(seen >> (key & 63) & 1))			       \
				history_log(a, me, &c, ADS_ABSENT, started, history_tick(a, me)); \
		}							       \
		return 0;						       \
	}

/*
 * A part of an iteration: the first key that is not below c->in, and up to `most` steps in all. Each is
 * exact, but that there is none is so only at some moment since the step before began.
 */
#define HISTORY_RANGE_OF(kind)						       \
	ADS_GLOBAL int history_range_##kind(__u64 actor, struct history_call *c, __u64 most) \
	{								       \
		struct ads_arena *a = ads_here();			       \
		struct history_actor __arena *me = history_me(a, actor);       \
		struct ads_scan scan = {};				       \
		__u64 before = 0, steps;				       \
									       \
		(void)a;						       \
		if (!c)							       \
			return ADS_INVALID;				       \
		c->operation = HISTORY_LOWER_BOUND;			       \
		for (ads_each(steps, most)) {				       \
			__u64 invoked = history_tick(a, me);		       \
			int rc = before ? ADS_OK : history_begin_##kind(a, c, &scan); \
									       \
			c->key = c->out = 0;				       \
			if (!rc)					       \
				rc = history_next_##kind(a, c, &scan);	       \
			if (rc == ADS_ABSENT && before)			       \
				c->operation = HISTORY_END;		       \
			else						       \
				before = invoked;			       \
			history_log(a, me, c, rc, before, history_tick(a, me)); \
			if (rc)						       \
				break;					       \
			c->in = c->key + 1;				       \
		}							       \
		return 0;						       \
	}

#define HISTORY_STEPS 6

/* --- hash map, set ---------------------------------------------------------------------- */

#define HISTORY_MAP(kind, value_bytes, map_flags)			       \
	/* What bpf.h's lookup_or_insert does; *entry is where the key's value was found or put. */ \
	static ADS_INLINE int history_have_##kind(struct ads_arena *a, struct ads_ref ref, __u64 key, __u64 init, \
						  __u32 *entry)		       \
	{								       \
		struct history_value value = history_value_of(init);	       \
		int rc = ads_hashmap_find(a, ref, &key, entry);		       \
									       \
		if (rc == ADS_ABSENT)					       \
			rc = ads_hashmap_update(a, ref, &key, &value, ADS_INSERT, entry); \
		return rc == ADS_EXISTS ? ADS_OK : rc;			       \
	}								       \
	ADS_GLOBAL int history_on_##kind(struct history_call *c)	       \
	{								       \
		struct ads_arena *a = ads_here();			       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		{							       \
			struct ads_ref ref = {(__u32)c->structure, sizeof(__u64), value_bytes, map_flags}; \
			struct history_value value = history_value_of(c->in);  \
			__u64 key = c->key;				       \
			__u32 entry = 0;				       \
			int rc;						       \
									       \
			switch (c->operation) {				       \
			case HISTORY_GET:				       \
				rc = ads_hashmap_get(a, ref, &key, &value);    \
				return rc ? rc : history_found(c, &value);     \
			case HISTORY_FIND:				       \
				return ads_hashmap_find(a, ref, &key, &entry); \
			case HISTORY_DELETE:				       \
				return ads_hashmap_delete(a, ref, &key);       \
			case HISTORY_POP:				       \
				rc = ads_hashmap_pop(a, ref, &key, &value);    \
				return rc ? rc : history_found(c, &value);     \
			case HISTORY_LOOKUP_OR_INSERT:			       \
				return history_have_##kind(a, ref, key, c->in, &entry); \
			case HISTORY_ADD:				       \
				rc = history_have_##kind(a, ref, key, HISTORY_COUNT_FROM, &entry); \
				if (!rc)				       \
					c->out = ads_add(ads_at(a, __u64, entry + ads_entry_value_offset(ref)), c->in); \
				return rc;				       \
			case HISTORY_INSERT:				       \
			case HISTORY_REPLACE:				       \
			case HISTORY_UPDATE:				       \
				return ads_hashmap_update(a, ref, &key, &value, history_mode(c->operation), &entry); \
			}						       \
		}							       \
		return ADS_INVALID;					       \
	}								       \
	HISTORY_SCAN_OF(kind, ads_hashmap_scan(a, ref, &scan),		       \
			ads_scan_next(a, &scan, ref, &last, &key, &value, &entry), sizeof(__u64), value_bytes, map_flags)

#define HISTORY_VALUE_BYTES sizeof(struct history_value)

HISTORY_MAP(map, HISTORY_VALUE_BYTES, 0)
HISTORY_MAP(grace, HISTORY_VALUE_BYTES, ADS_GRACE)
HISTORY_MAP(set, 0, 0)

/* --- list ------------------------------------------------------------------------------- */

ADS_GLOBAL int history_list_pop_first(struct history_call *c)
{
	struct ads_arena *a = ads_here();

	if (!c)
		return ADS_INVALID;
	{
		struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0};
		struct history_value value;
		__u64 order = 0;
		int rc = ads_list_pop_first(a, ref, &order, &value);

		c->key = order;
		return rc ? rc : history_found(c, &value);
	}
}

ADS_GLOBAL int history_on_list(struct history_call *c)
{
	struct ads_arena *a = ads_here();

	if (!c)
		return ADS_INVALID;
	{
		struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0};
		struct history_value value = history_value_of(c->in);
		__u64 order = c->key;
		__u32 entry = 0;
		int rc;

		switch (c->operation) {
		case HISTORY_GET:
			rc = ads_list_get(a, ref, order, &value);
			return rc ? rc : history_found(c, &value);
		case HISTORY_FIND:
			return ads_list_find(a, ref, order, &entry);
		case HISTORY_DELETE:
			return ads_list_delete(a, ref, order);
		case HISTORY_POP:
			rc = ads_list_pop(a, ref, order, &value);
			return rc ? rc : history_found(c, &value);
		case HISTORY_PUSH:
			rc = ads_list_push(a, ref, &value, &order, &entry);
			c->key = order;
			return rc;
		case HISTORY_FIRST: /* the lower bound of all */
			rc = ads_list_first(a, ref, &order, &value);
			c->operation = HISTORY_LOWER_BOUND;
			c->in = 0;
			c->key = order;
			return rc ? rc : history_found(c, &value);
		case HISTORY_POP_FIRST:
			return history_list_pop_first(c);
		case HISTORY_INSERT:
		case HISTORY_REPLACE:
		case HISTORY_UPDATE:
			return ads_list_update(a, ref, order, &value, history_mode(c->operation), &entry);
		}
	}
	return ADS_INVALID;
}

HISTORY_SCAN_OF(list, ads_scan_start(a, &scan, ads_list_head(ref)),
		ads_scan_next(a, &scan, ref, &last, &key, &value, &entry), 0, HISTORY_VALUE_BYTES, 0)

static ADS_INLINE int history_begin_list(struct ads_arena *a, const struct history_call *c, struct ads_scan *scan)
{
	struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0};

	return ads_scan_after(a, scan, ads_list_head(ref), c->in - 1);
}

static ADS_INLINE int history_next_list(struct ads_arena *a, struct history_call *c, struct ads_scan *scan)
{
	struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0};
	struct history_value value;
	__u32 entry;
	int rc = ads_scan_next(a, scan, ref, 0, 0, &value, &entry);

	c->key = scan->hash;
	return rc ? rc : history_found(c, &value);
}

HISTORY_RANGE_OF(list)

/* --- queue -------------------------------------------------------------------------------- */

#define HISTORY_QUEUE(kind)						       \
	ADS_GLOBAL int history_on_##kind(struct history_call *c)	       \
	{								       \
		struct ads_arena *a = ads_here();			       \
									       \
		if (!c)							       \
			return ADS_INVALID;				       \
		{							       \
			struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0}; \
			struct history_value value = history_value_of(c->in);  \
			int rc;						       \
									       \
			if (c->operation == HISTORY_PUSH)		       \
				return ads_##kind##_push(a, ref, &value);      \
			rc = ads_##kind##_pop(a, ref, &value);		       \
			return rc ? rc : history_found(c, &value);	       \
		}							       \
	}

HISTORY_QUEUE(queue)
HISTORY_QUEUE(mpmc)

/* --- pool --------------------------------------------------------------------------------- */

/* What lies in an object is its owner's alone: if it has changed, somebody else owns it too. */
ADS_GLOBAL int history_on_pool(struct history_call *c)
{
	struct ads_arena *a = ads_here();

	if (!c)
		return ADS_INVALID;
	{
		struct ads_ref ref = {(__u32)c->structure, 0, sizeof(struct history_value), 0};
		struct history_value value = history_value_of(c->in);
		__u32 object = (__u32)c->key;

		if (c->operation == HISTORY_ALLOC) {
			int rc = ads_pool_alloc(a, ref, &object);

			if (rc)
				return rc;
			ads_copy_in(a, object, &value, sizeof(value));
			c->key = object;
			return ADS_OK;
		}
		ads_copy_out(a, &value, object, sizeof(value));
		if (history_found(c, &value))
			return HISTORY_TORN;
		return ads_pool_free(a, ref, object);
	}
}

#include "history_array.h"
#include "history_intrusive.h"
#include "history_ordered.h"
#include "history_ring.h"
#include "history_rings.h"

/* --- one operation ------------------------------------------------------------------------ */

#define HISTORY_STEP_KEYED(kind, range)					       \
	static ADS_INLINE void history_step_##kind(struct ads_arena *a, struct history_actor __arena *me) \
	{								       \
		struct history_call c = history_choose(me);		       \
		__u64 invoked;						       \
		int code;						       \
									       \
		if (c.operation == HISTORY_SCAN) {			       \
			history_scan_##kind((__u64)(unsigned long)me & 0xffffffff); \
			return;						       \
		}							       \
		range;							       \
		invoked = history_tick(a, me);				       \
		code = history_on_##kind(&c);				       \
		history_log(a, me, &c, code, invoked, history_tick(a, me));    \
		if (c.operation == HISTORY_PUSH && !code)		       \
			me->recent = c.key;				       \
	}

/* The same with ranges. */
#define HISTORY_STEP_SORTED(kind)					       \
	HISTORY_STEP_KEYED(							       \
		kind, if (c.operation == HISTORY_LOWER_BOUND || c.operation == HISTORY_RANGE) { \
			history_range_##kind((__u64)(unsigned long)me & 0xffffffff, &c, \
					     c.operation == HISTORY_RANGE ? HISTORY_STEPS : 1); \
			return;							       \
		})

HISTORY_STEP_KEYED(map, )
HISTORY_STEP_KEYED(grace, )
HISTORY_STEP_KEYED(set, )
HISTORY_STEP_SORTED(list)
HISTORY_STEP_SORTED(ordered)

#define HISTORY_STEP_QUEUE(kind)					       \
	static ADS_INLINE void history_step_##kind(struct ads_arena *a, struct history_actor __arena *me) \
	{								       \
		struct history_call c = {.operation = HISTORY_TAKE, .counters = ~0ull}; \
		__u64 random = history_random(me);			       \
		__u64 invoked, queue = me->takes[random & 1];		       \
		int code;						       \
									       \
		if (random & 2) {					       \
			queue = me->pushes[random & 1];			       \
			c.operation = HISTORY_PUSH;			       \
			c.in = history_new_value(me);			       \
		}							       \
		c.key = queue >> 32;					       \
		c.structure = (__u32)queue;				       \
		invoked = history_tick(a, me);				       \
		code = history_on_##kind(&c);				       \
		history_log(a, me, &c, code, invoked, history_tick(a, me));    \
	}

HISTORY_STEP_QUEUE(queue)
HISTORY_STEP_QUEUE(mpmc)

static ADS_INLINE void history_step_pool(struct ads_arena *a, struct history_actor __arena *me)
{
	struct history_counter __arena *counter = ads_at(a, struct history_counter, me->clock + ADS_LINE);
	struct history_call c = {.structure = me->structure, .operation = HISTORY_ALLOC, .counters = ~0ull};
	__u64 random = history_random(me);
	__u64 hand = random & (HISTORY_HANDS - 1);
	__u64 invoked;
	int code;

	c.key = me->hands[hand];
	if (c.key && random & 8)
		c.key = ads_xchg(&counter->objects[random >> 4 & 7], c.key);
	if (c.key)
		c.operation = HISTORY_FREE;
	else
		c.in = history_new_value(me);
	invoked = history_tick(a, me);
	code = history_on_pool(&c);
	history_log(a, me, &c, code, invoked, history_tick(a, me));
	me->hands[hand] = c.operation == HISTORY_ALLOC && !code ? c.key : 0;
}

/* --- many operations ------------------------------------------------------------------------ */

static ADS_NOINLINE struct history_actor __arena *history_actor_of(__u64 number)
{
	return actors_lookup(&number);
}

/* How many operations the slowest of the others has done; ~0 if all that count have ended. */
static ADS_NOINLINE __u64 history_slowest(__u64 parties)
{
	__u64 slowest = ~0ull, number;

	for (ads_each(number, parties)) {
		struct history_actor __arena *other = history_actor_of(number);
		__u64 done = other ? ads_load(&other->done) : 0;

		if (other && done < other->goal && done < slowest)
			slowest = done;
	}
	return slowest;
}

/* An actor that is called again and again, and one that interrupts others. */
#define HISTORY_ACTOR(kind)						       \
	static ADS_INLINE int history_go_##kind(struct ads_arena *a, struct history_actor __arena *me, __u64 operations) \
	{								       \
		__u64 i;						       \
									       \
		for (ads_each(i, operations)) {				       \
			if (me->done >= me->goal || me->events + HISTORY_MOST_EVENTS > me->room) \
				return HISTORY_DONE;			       \
			history_step_##kind(a, me);			       \
			ads_store(&me->done, me->done + 1);		       \
		}							       \
		return HISTORY_MORE;					       \
	}								       \
	SEC("syscall") int record_##kind(struct history_run *run)	       \
	{								       \
		struct history_actor __arena *me = history_actor_of(run->actor); \
									       \
		if (!me)						       \
			return HISTORY_NO_ACTOR;			       \
		if (me->done < me->goal && me->done > history_slowest(me->parties) + me->lead) \
			return HISTORY_WAIT;				       \
		return history_go_##kind(ads_here(), me, run->operations);     \
	}								       \
	HISTORY_INTERRUPT(kind)

#if ADS_BPF
/* Spread over the whole of the others' work: half as many operations. */
#define HISTORY_INTERRUPT(kind)						       \
	SEC("perf_event") int interrupt_##kind(void *context)		       \
	{								       \
		struct history_actor __arena *me = history_actor_of(HISTORY_INTERRUPTS + bpf_get_smp_processor_id()); \
		__u64 slowest = me ? history_slowest(me->parties) : ~0ull;     \
									       \
		if (slowest != ~0ull && me->done <= slowest / 2)	       \
			history_go_##kind(ads_here(), me, me->lead);	       \
		return 0;						       \
	}								       \
	struct history_run
#else
#define HISTORY_INTERRUPT(kind) struct history_run
#endif

HISTORY_ACTOR(map);
HISTORY_ACTOR(grace);
HISTORY_ACTOR(set);
HISTORY_ACTOR(list);
HISTORY_ACTOR(queue);
HISTORY_ACTOR(pool);
HISTORY_ACTOR(ordered);
HISTORY_ACTOR(array);
HISTORY_ACTOR(ring);
HISTORY_ACTOR(overwriting);
HISTORY_ACTOR(rings);
HISTORY_ACTOR(mpmc);
HISTORY_ACTOR(intrusive);

#endif /* HISTORY_H */
