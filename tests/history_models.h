/* SPDX-License-Identifier: MIT */
/*
 * history_models.h - the sequential structures of history.c: what an operation does to a state,
 * and whether it may give what it gave.
 *
 *	REGISTER	the value of a key; 0: none
 *	CELL		a word of an array: 0 at first, and never absent
 *	SORTED		how many, and pairs {key, value} in order
 *	NODES		two lists of nodes, each as SORTED: {order, node}
 *	QUEUE		how many, and the numbers of the operations that pushed them, the oldest first
 *	RING, OVERWRITING
 *			positions of the oldest byte and behind the last committed one, how many
 *			records, how many of them are published, and their values, the oldest first
 *
 * Some operations are not of one moment, as their headers say:
 *
 *	POP_FIRST	what it takes was the first at one moment, and is taken at another
 *	LINKED		said of a node that another is about to link, which may come to nothing
 *	PUSH, APPEND, DISCARD of an overwriting ring
 *			drop the oldest records one by one before there is room
 *	END		an iteration saw in the step before that nothing follows
 */
#ifndef HISTORY_MODELS_H
#define HISTORY_MODELS_H

/* What a step of an operation may be. */
enum {
	STEP_NEVER, /* not with this state */
	STEP_DONE,
	STEP_ON, /* the state has changed, the operation goes on */
};

/* --- one key ------------------------------------------------------------------------ */

/* Room is somebody else's business here. */
static int step_key(__u64 *value, const struct history_event *e)
{
	switch (e->operation) {
	case HISTORY_GET:
	case HISTORY_LOWER_BOUND: /* what it found, that is */
		return e->code ? e->code == ADS_ABSENT && !*value : *value && *value == e->out;
	case HISTORY_FIND:
		return e->code ? e->code == ADS_ABSENT && !*value : *value != 0;
	case HISTORY_INSERT:
	case HISTORY_ALLOC:
		if (e->code == ADS_EXISTS)
			return e->operation == HISTORY_INSERT && *value;
		if (*value || (e->code && e->code != ADS_FULL))
			return 0;
		*value = e->code ? 0 : e->in;
		return 1;
	case HISTORY_REPLACE:
		if (e->code == ADS_ABSENT)
			return !*value;
		if (!*value || (e->code && e->code != ADS_FULL))
			return 0;
		*value = e->code ? *value : e->in;
		return 1;
	case HISTORY_UPDATE:
		if (e->code)
			return e->code == ADS_FULL;
		*value = e->in;
		return 1;
	case HISTORY_LOOKUP_OR_INSERT:
		if (e->code)
			return e->code == ADS_FULL && !*value;
		if (!*value)
			*value = e->in;
		return 1;
	case HISTORY_ADD:
		if (e->code)
			return e->code == ADS_FULL && !*value;
		if ((*value ? *value : HISTORY_COUNT_FROM) != e->out)
			return 0;
		*value = e->out + e->in;
		return 1;
	case HISTORY_DELETE:
		if (e->code)
			return e->code == ADS_ABSENT && !*value;
		if (!*value)
			return 0;
		*value = 0;
		return 1;
	case HISTORY_POP:
	case HISTORY_POP_FIRST:
	case HISTORY_FREE: /* always of an object that the caller owns */
		if (e->code)
			return e->code == ADS_ABSENT && e->operation == HISTORY_POP && !*value;
		if (!*value || *value != e->out)
			return 0;
		*value = 0;
		return 1;
	}
	return 0;
}

static int step_cell(__u64 *value, const struct history_event *e)
{
	int same = *value == e->out;

	switch (e->operation) {
	case HISTORY_UPDATE:
		*value = e->in;
		return !e->code;
	case HISTORY_GET:
		return !e->code && same;
	case HISTORY_EXCHANGE:
		*value = e->in;
		return !e->code && same;
	case HISTORY_ADD:
		*value += e->in;
		return !e->code && same;
	case HISTORY_COMPARE:
		if (!e->code)
			*value = e->in;
		return (!e->code || e->code == ADS_EXISTS) && same;
	}
	return 0;
}

/* --- in order ------------------------------------------------------------------------- */

#define SORTED_WORDS(capacity) (1 + 2 * (capacity))

/* The first pair that is not below a key, or where it would be. */
static __u64 *sorted_place(__u64 *state, __u64 key)
{
	__u64 at = 0;

	while (at < state[0] && state[1 + 2 * at] < key)
		at++;
	return state + 1 + 2 * at;
}

static __u64 *sorted_end(__u64 *state)
{
	return state + 1 + 2 * state[0];
}

static int sorted_has(__u64 *state, __u64 key)
{
	__u64 *pair = sorted_place(state, key);

	return pair < sorted_end(state) && pair[0] == key;
}

static __u64 sorted_push_order(const __u64 *state)
{
	return state[0] ? state[1] - 1 : 1ull << 63;
}

/* Give a key a value, or none. 0: there is no room. */
static int sorted_store(__u64 *state, __u64 key, __u64 value, __u64 capacity)
{
	__u64 *pair = sorted_place(state, key), *end = sorted_end(state);

	if (pair < end && pair[0] == key) {
		pair[1] = value;
		if (value)
			return 1;
		memmove(pair, pair + 2, (size_t)(end - pair - 2) * sizeof(*pair));
		end[-1] = end[-2] = 0; /* equal states are equal words */
		state[0]--;
	} else if (value) {
		if (state[0] == capacity)
			return 0;
		memmove(pair + 2, pair, (size_t)(end - pair) * sizeof(*pair));
		pair[0] = key;
		pair[1] = value;
		state[0]++;
	}
	return 1;
}

static int step_sorted(__u64 *state, const struct history_event *e, __u64 capacity)
{
	__u64 *pair;
	__u64 value;

	switch (e->operation) {
	case HISTORY_PUSH:
		if (e->code)
			return e->code == ADS_FULL;
		return e->key == sorted_push_order(state) && sorted_store(state, e->key, e->in, capacity);
	case HISTORY_LOWER_BOUND:
	case HISTORY_END:
		pair = sorted_place(state, e->in);
		if (e->code)
			return e->code == ADS_ABSENT && pair == sorted_end(state);
		return pair < sorted_end(state) && pair[0] == e->key && pair[1] == e->out;
	case HISTORY_POP_FIRST:
		if (e->code)
			return e->code == ADS_ABSENT && !state[0];
	}
	value = sorted_has(state, e->key) ? sorted_place(state, e->key)[1] : 0;
	return step_key(&value, e) && sorted_store(state, e->key, value, capacity);
}

/* --- nodes ------------------------------------------------------------------------------- */

/* The pair of a node in a list; NULL: it is not there. */
static const __u64 *nodes_find(const __u64 *list, __u64 node)
{
	__u64 i;

	for (i = 0; i < list[0]; i++)
		if (list[2 + 2 * i] == node)
			return list + 1 + 2 * i;
	return NULL;
}

static int step_nodes(__u64 *state, const struct operation *o, __u64 capacity)
{
	const struct history_event *e = o->event;
	__u64 *lists[] = {state, state + SORTED_WORDS(capacity)};
	__u64 *list = lists[e->list & 1];
	const __u64 *at = nodes_find(list, e->in);
	int linked = nodes_find(lists[0], e->in) || nodes_find(lists[1], e->in);

	switch (e->operation) {
	case HISTORY_INSERT:
	case HISTORY_PUSH:
		if (e->code == ADS_LINKED)
			return linked || o->excused;
		if (e->code == ADS_EXISTS) /* another has its order */
			return e->operation == HISTORY_INSERT && sorted_has(list, e->key) &&
			       sorted_place(list, e->key)[1] != e->in;
		if (e->code || linked || sorted_has(list, e->key) ||
		    (e->operation == HISTORY_PUSH && e->key != sorted_push_order(list)))
			return 0;
		return sorted_store(list, e->key, e->in, capacity);
	case HISTORY_REMOVE:
		if (e->code)
			return e->code == ADS_ABSENT && !at;
		return at && sorted_store(list, at[0], 0, capacity);
	case HISTORY_CONTAINS:
		return e->code ? e->code == ADS_ABSENT && !at : at && at[0] == e->key;
	case HISTORY_GET:
	case HISTORY_POP:
	case HISTORY_LOWER_BOUND:
	case HISTORY_END:
	case HISTORY_POP_FIRST:
		return step_sorted(list, e, capacity);
	}
	return 0;
}

/* Whether one operation may say of a node that it is linked because of the other, which runs at the
 * same time: that was about to link it. */
static int nodes_excuse(const struct history_event *e, const struct history_event *other)
{
	return e->code == ADS_LINKED && other->code != ADS_LINKED && e->in == other->in &&
	       (other->operation == HISTORY_INSERT || other->operation == HISTORY_PUSH);
}

/* --- queues ------------------------------------------------------------------------------- */

static int step_queue(__u64 *state, const struct operation *all, const struct operation *o, __u64 capacity)
{
	const struct history_event *e = o->event;
	__u64 count = state[0], i;

	if (e->operation == HISTORY_PUSH) {
		if (e->code)
			return e->code == ADS_FULL && count == capacity;
		if (count == capacity)
			return 0;
		/* In vain behind one that is taken after it. */
		for (i = 1; i <= count; i++)
			if (all[state[i]].taken_from > o->taken_until)
				return 0;
		state[++state[0]] = (__u64)(o - all);
		return 1;
	}
	if (e->operation != HISTORY_TAKE)
		return 0;
	if (e->code)
		return e->code == ADS_ABSENT && !count;
	if (!count || all[state[1]].event->in != e->out)
		return 0;
	memmove(state + 1, state + 2, (count - 1) * sizeof(*state));
	state[count] = 0;
	state[0]--;
	return 1;
}

/* --- rings ---------------------------------------------------------------------------------- */

enum { RING_HEAD, RING_COMMITTED, RING_COUNT, RING_PUBLISHED, RING_VALUES };

static __u64 ring_need(__u64 value)
{
	return ((__u64)history_length(value) + 8 + 7) & ~7ull;
}

/* Where a record begins that comes at this position: there, or behind the wrap. */
static __u64 ring_begin(__u64 position, __u64 value, __u64 size)
{
	__u64 left = size - (position & (size - 1));

	return ring_need(value) <= left ? position : position + left;
}

/* The oldest record is no more. */
static void ring_remove(__u64 *state, __u64 size)
{
	__u64 *values = state + RING_VALUES;

	state[RING_HEAD] = ring_begin(state[RING_HEAD], values[0], size) + ring_need(values[0]);
	state[RING_COUNT]--;
	state[RING_PUBLISHED]--;
	memmove(values, values + 1, state[RING_COUNT] * sizeof(*values));
	values[state[RING_COUNT]] = 0;
}

/* What a producer does next to make room. */
static int ring_drop(__u64 *state, __u64 size)
{
	__u64 begin;

	if (!state[RING_COUNT])
		return STEP_NEVER;
	begin = ring_begin(state[RING_HEAD], state[RING_VALUES], size);
	if (!state[RING_PUBLISHED])
		state[RING_PUBLISHED] = state[RING_COUNT]; /* all that is left is published early */
	else if (begin != state[RING_HEAD])
		state[RING_HEAD] = begin; /* padding */
	else
		ring_remove(state, size);
	return STEP_ON;
}

static int ring_produce(__u64 *state, const struct history_event *e, __u64 size, int overwriting)
{
	__u64 end = ring_begin(state[RING_COMMITTED], e->in, size) + ring_need(e->in);
	int fits = end - state[RING_HEAD] <= size;

	if (history_length(e->in) > size / 2 - 8)
		return e->code == ADS_TOO_LONG;
	if (e->code || history_length(e->in) < 8)
		return e->code == ADS_FULL && !overwriting && !fits;
	if (!fits)
		return overwriting ? ring_drop(state, size) : STEP_NEVER;
	if (e->operation == HISTORY_DISCARD)
		return STEP_DONE;
	state[RING_VALUES + state[RING_COUNT]++] = e->in;
	state[RING_COMMITTED] = end;
	if (e->operation == HISTORY_PUSH)
		state[RING_PUBLISHED] = state[RING_COUNT];
	return STEP_DONE;
}

static int step_ring(__u64 *state, const struct history_event *e, __u64 size, int overwriting)
{
	__u64 published = state[RING_PUBLISHED], oldest = state[RING_VALUES], i;

	switch (e->operation) {
	case HISTORY_PUSH:
	case HISTORY_APPEND:
	case HISTORY_DISCARD:
		return ring_produce(state, e, size, overwriting);
	case HISTORY_PUBLISH:
		state[RING_PUBLISHED] = state[RING_COUNT];
		return !e->code;
	case HISTORY_FIRST:
		if (e->code)
			return e->code == HISTORY_GONE || (e->code == ADS_ABSENT && !published);
		return published && e->out == oldest;
	case HISTORY_TAKE:
		if (!published || e->code == ADS_ABSENT)
			return e->code == ADS_ABSENT && !published;
		if (history_length(oldest) > e->in)
			return e->code == ADS_TOO_LONG;
		if (e->code || e->out != oldest)
			return 0;
		ring_remove(state, size);
		return 1;
	case HISTORY_LOOK:
		return !e->code && e->in < published && state[RING_VALUES + e->in] == e->out;
	case HISTORY_RELEASE:
		if (e->code || e->in > published)
			return 0;
		for (i = 0; i < e->in; i++)
			ring_remove(state, size);
		return 1;
	}
	return 0;
}

/* --- whichever it is --------------------------------------------------------------------------- */

/* One step of an operation; `seen`: see history_sees(). */
static int step(const struct history *h, __u64 *state, const struct operation *o, int seen)
{
	const struct history_event *e = o->event;

	if (e->operation == HISTORY_POP_FIRST && !e->code && !seen && h->model != REGISTER)
		return STEP_NEVER;
	switch (h->model) {
	case REGISTER:
		return step_key(state, e);
	case CELL:
		return step_cell(state, e);
	case SORTED:
		return step_sorted(state, e, h->capacity);
	case NODES:
		return step_nodes(state, o, h->capacity);
	case QUEUE:
		return step_queue(state, h->operations, o, h->capacity);
	case RING:
	case OVERWRITING:
		return step_ring(state, e, h->capacity, h->model == OVERWRITING);
	case FIFO:
		break;
	}
	return STEP_NEVER;
}

/* Whether with this state an operation may see what it takes at a later moment. */
static int history_sees(const struct history *h, const __u64 *state, const struct history_event *e)
{
	const __u64 *list = state + (h->model == NODES && e->list & 1 ? SORTED_WORDS(h->capacity) : 0);

	return e->operation == HISTORY_POP_FIRST && !e->code && (h->model == SORTED || h->model == NODES) && list[0] &&
	       list[1] == e->key && (h->model == SORTED || list[2] == e->out);
}

/* Words of a state; 0: more than fit. */
static size_t state_words(const struct history *h)
{
	size_t words = 1;

	switch (h->model) {
	case REGISTER:
	case CELL:
		break;
	case SORTED:
		words = SORTED_WORDS(h->capacity);
		break;
	case NODES:
		words = 2 * SORTED_WORDS(h->capacity);
		break;
	case QUEUE:
	case FIFO:
		words = 1 + h->capacity;
		break;
	case RING:
	case OVERWRITING:
		words = RING_VALUES + h->capacity / 16;
		break;
	}
	return words <= MOST_WORDS ? words : 0;
}

#endif /* HISTORY_MODELS_H */
