/* SPDX-License-Identifier: MIT */
/*
 * history.c - whether a recorded history is linearizable: could the operations have happened
 * one after the other, each at some moment between its invocation and its return, on a
 * sequential structure that gave the same results? (Herlihy and Wing, 1990)
 *
 * Just in time, as Lowe does it (Testing for Linearizability, 2017). The moments of a history
 * are gone through in order, with all that may be true by then:
 *
 *	configuration	the state of the sequential structure, and which of the open operations
 *			have happened already
 *	invocation	one more operation is open
 *	return of op	configurations in which op has not happened yet are replaced by all that
 *			follow from them when open operations happen, the last of them op
 *
 * If none is left, no order explains the history. Nothing is left out, so the answer is exact;
 * it is quick because few operations are open at a time and few orders of them make a difference.
 *
 * Linearizability is local: a map is linearizable if each key is. So where every operation is about
 * one key, each key is a history of its own. Where one depends on others' (a push at the head
 * of a list), the structure is one history.
 *
 *	REGISTER	a value or none, for each key
 *	SORTED		orders and values, as one
 *	QUEUE		the values in a queue of `capacity`, for each queue: any number at both ends
 *	FIFO		each queue again, without its capacity, by the patterns that no queue shows
 *			(Bouajjani, Emmi, Enea, Hamza: On Reducing Linearizability to State
 *			Reachability, 2015): another way to the same answer, in n log n steps
 */
#include "programs/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum model { REGISTER, SORTED, QUEUE, FIFO };

#define MOST_WORDS 66		 /* of a state */
#define MOST_CONFIGURATIONS (1u << 20)
#define EXPORT __attribute__((visibility("default")))

struct report {
	__u64 operations;
	__u64 keys;	/* that they were about, or queues */
	__u64 concurrent; /* pairs of operations of which none returned before the other began */
	__u64 overlaps; /* those of them that were about one key */
	__u64 handovers; /* times that a key's next operation to return was another actor's */
	__u64 open;	/* most operations on one key at once */
	__u64 configurations; /* most at once */
	__u64 full;	/* operations refused for want of room */
	__u64 present;	/* most keys that were certainly there at once */
	char problem[4096];
};

struct operation {
	const struct history_event *event;
	__u32 actor;
};

struct moment {
	__u64 key, time;
	__u32 operation;
	__u32 returns;
};

struct history {
	enum model model;
	__u64 capacity;
	struct operation *operations;
	struct moment *moments;
	size_t operation_count, moment_count;
	struct report *report;
};

/* --- what is said of a history that is refused -------------------------------------- */

static const char *const operation_names[] = {
#define HISTORY_NAME(name) #name,
	HISTORY_OPERATIONS(HISTORY_NAME)
};
#define OPERATIONS (sizeof(operation_names) / sizeof(operation_names[0]))

EXPORT const char *history_operation_name(unsigned number)
{
	return number < OPERATIONS ? operation_names[number] : NULL;
}

__attribute__((format(printf, 2, 3))) static void say(struct report *report, const char *format, ...)
{
	size_t have = strlen(report->problem);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(report->problem + have, sizeof(report->problem) - have, format, arguments);
	va_end(arguments);
}

static void say_operation(struct report *report, const struct operation *o)
{
	const struct history_event *e = o->event;

	say(report, "\n  [%llu, %llu] actor %u: %s key %llu in %#llx: %d, out %#llx", e->invoked, e->returned, o->actor,
	    e->operation < OPERATIONS ? operation_names[e->operation] : "?", e->key, e->in, e->code, e->out);
}

/* The operation that nothing explains, those that overlap it, and those just before. */
static void say_where(struct history *h, size_t first, size_t at)
{
	const struct operation *culprit = &h->operations[h->moments[at].operation];
	size_t i, from = at - first > 60 ? at - 60 : first;

	say(h->report, "no order of the operations explains this one:");
	say_operation(h->report, culprit);
	say(h->report, "\nafter these, by their returns:");
	for (i = from; i < at; i++)
		if (h->moments[i].returns)
			say_operation(h->report, &h->operations[h->moments[i].operation]);
	say(h->report, "\nwhile these were open:");
	for (i = first; i < at; i++) {
		const struct operation *o = &h->operations[h->moments[i].operation];

		if (!h->moments[i].returns && o->event->returned > culprit->event->returned)
			say_operation(h->report, o);
	}
}

/* --- how much of it was concurrent -------------------------------------------------- */

/* The moments of a key begin at `first`: where they end. */
static size_t key_end(const struct history *h, size_t first)
{
	size_t end = first;

	while (end < h->moment_count && h->moments[end].key == h->moments[first].key)
		end++;
	return end;
}

static int by_moment(const void *one, const void *other)
{
	const struct moment *a = one, *b = other;

	return a->time < b->time ? -1 : a->time > b->time;
}

static int by_key_and_moment(const void *one, const void *other)
{
	const struct moment *a = one, *b = other;

	return a->key != b->key ? (a->key < b->key ? -1 : 1) : by_moment(one, other);
}

/* Sort the moments by key, each key's by time, and count. */
static void count_all(struct history *h)
{
	__u64 open = 0;
	size_t i, first, end;

	qsort(h->moments, h->moment_count, sizeof(*h->moments), by_moment);
	for (i = 0; i < h->moment_count; i++)
		if (h->moments[i].returns)
			open--;
		else
			h->report->concurrent += open++;
	qsort(h->moments, h->moment_count, sizeof(*h->moments), by_key_and_moment);
	for (first = 0; first < h->moment_count; first = end) {
		__u32 last = HISTORY_ACTORS;

		end = key_end(h, first);
		h->report->keys++;
		for (i = first; i < end; i++) {
			__u32 actor = h->operations[h->moments[i].operation].actor;

			if (!h->moments[i].returns) {
				h->report->overlaps += open++;
				if (open > h->report->open)
					h->report->open = open;
				continue;
			}
			open--;
			h->report->handovers += last != HISTORY_ACTORS && actor != last;
			last = actor;
		}
	}
}

/* --- the sequential structures ------------------------------------------------------- */

/*
 * What each operation does to one key, which has a value or, 0, none. Whether it may give
 * what it gave. Room is somebody else's business here.
 */
static int step_key(__u64 *value, const struct history_event *e)
{
	switch (e->operation) {
	case HISTORY_GET:
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

/* state: how many, and pairs {key, value} in order. */
static int step_sorted(__u64 *state, const struct history_event *e, __u64 capacity)
{
	__u64 count = state[0], at = 0, value;
	__u64 *pair;

	if (e->operation == HISTORY_PUSH && e->code == ADS_FULL)
		return 1;
	if (e->operation == HISTORY_PUSH && (e->code || e->key != (count ? state[1] - 1 : 1ull << 63)))
		return 0;
	while (at < count && state[1 + 2 * at] < e->key)
		at++;
	pair = state + 1 + 2 * at;
	value = at < count && pair[0] == e->key ? pair[1] : 0;
	if (e->operation == HISTORY_PUSH) {
		struct history_event insert = *e;

		insert.operation = HISTORY_INSERT;
		return step_sorted(state, &insert, capacity);
	}
	{
		__u64 before = value;

		if (!step_key(&value, e))
			return 0;
		if (before && value) {
			pair[1] = value;
		} else if (value) {
			if (count == capacity)
				return 0;
			memmove(pair + 2, pair, (count - at) * 2 * sizeof(*pair));
			pair[0] = e->key;
			pair[1] = value;
			state[0]++;
		} else if (before) {
			memmove(pair, pair + 2, (count - at - 1) * 2 * sizeof(*pair));
			state[2 * count] = state[2 * count - 1] = 0; /* equal states are equal words */
			state[0]--;
		}
	}
	return 1;
}

/* state: how many, and the values, the oldest first. */
static int step_queue(__u64 *state, const struct history_event *e, __u64 capacity)
{
	__u64 count = state[0];

	if (e->operation == HISTORY_PUSH) {
		if (e->code)
			return e->code == ADS_FULL && count == capacity;
		if (count == capacity)
			return 0;
		state[++state[0]] = e->in;
		return 1;
	}
	if (e->operation != HISTORY_TAKE)
		return 0;
	if (e->code)
		return e->code == ADS_ABSENT && !count;
	if (!count || state[1] != e->out)
		return 0;
	memmove(state + 1, state + 2, (count - 1) * sizeof(*state));
	state[count] = 0;
	state[0]--;
	return 1;
}

static int step(const struct history *h, __u64 *state, const struct history_event *e)
{
	if (h->model == REGISTER)
		return step_key(state, e);
	return h->model == SORTED ? step_sorted(state, e, h->capacity) : step_queue(state, e, h->capacity);
}

/* Words of a state; 0: more than fit. */
static size_t state_words(const struct history *h)
{
	size_t words = h->model == REGISTER ? 1 : h->model == SORTED ? 1 + 2 * h->capacity : 1 + h->capacity;

	return words <= MOST_WORDS ? words : 0;
}

/* --- sets of configurations ----------------------------------------------------------- */

/* A configuration: one word with a bit for each actor whose open operation has happened, and
 * the words of the state. */
struct set {
	size_t stride, count, room;
	__u64 *words;
	__u32 *slots; /* open addressing: number of a configuration plus 1, 0: none */
	size_t slot_count;
};

#define FEW 8 /* up to so many are compared one by one */

static __u64 *set_at(const struct set *s, size_t i)
{
	return s->words + i * s->stride;
}

static size_t set_slot(const struct set *s, const __u64 *configuration)
{
	__u64 hash = 0;
	size_t i, slot;

	for (i = 0; i < s->stride; i++) {
		hash = (hash ^ configuration[i]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	for (slot = hash % s->slot_count; s->slots[slot]; slot = (slot + 1) % s->slot_count)
		if (!memcmp(set_at(s, s->slots[slot] - 1), configuration, s->stride * sizeof(__u64)))
			break;
	return slot;
}

/* Room for twice as many; 0, or -1 without memory. */
static int set_grow(struct set *s)
{
	size_t room = s->room ? 2 * s->room : 64, i;
	__u64 *words = realloc(s->words, room * s->stride * sizeof(*words));
	__u32 *slots;

	if (!words)
		return -1;
	s->words = words;
	slots = realloc(s->slots, 2 * room * sizeof(*slots));
	if (!slots)
		return -1;
	s->slots = slots;
	s->room = room;
	s->slot_count = 2 * room;
	memset(slots, 0, 2 * room * sizeof(*slots));
	if (s->count > FEW)
		for (i = 0; i < s->count; i++)
			slots[set_slot(s, set_at(s, i))] = (__u32)i + 1;
	return 0;
}

static void set_clear(struct set *s)
{
	if (s->count > FEW)
		memset(s->slots, 0, s->slot_count * sizeof(*s->slots));
	s->count = 0;
}

/* Add a configuration if it is not there; 0, or -1 if there are too many. */
static int set_add(struct set *s, const __u64 *configuration)
{
	size_t bytes = s->stride * sizeof(__u64), i;

	if (s->count == s->room && (s->count == MOST_CONFIGURATIONS || set_grow(s)))
		return -1;
	if (s->count <= FEW) {
		for (i = 0; i < s->count; i++)
			if (!memcmp(set_at(s, i), configuration, bytes))
				return 0;
		memcpy(set_at(s, s->count++), configuration, bytes);
		if (s->count > FEW)
			for (i = 0; i < s->count; i++)
				s->slots[set_slot(s, set_at(s, i))] = (__u32)i + 1;
		return 0;
	}
	i = set_slot(s, configuration);
	if (s->slots[i])
		return 0;
	memcpy(set_at(s, s->count++), configuration, bytes);
	s->slots[i] = (__u32)s->count;
	return 0;
}

/* --- just in time --------------------------------------------------------------------- */

enum verdict { ACCEPTED = 0, REFUSED = 1, MALFORMED = -1, TOO_MUCH = -2 };

struct search {
	struct history *history;
	const struct history_event *open[HISTORY_ACTORS];
	unsigned open_count;
	struct set now, reached, next;
};

/* After the return of an actor's operation: which configurations explain it. */
static enum verdict search_return(struct search *s, unsigned actor)
{
	__u64 configuration[MOST_WORDS + 1];
	__u64 bit = 1ull << actor;
	size_t bytes = s->now.stride * sizeof(__u64), i;
	struct set swap;
	unsigned other;

	if (s->now.count == 1 && s->open_count == 1) {
		__u64 *only = set_at(&s->now, 0);

		if (only[0] & bit) {
			only[0] = 0;
			return ACCEPTED;
		}
		return step(s->history, only + 1, s->open[actor]) ? ACCEPTED : REFUSED;
	}
	set_clear(&s->reached);
	set_clear(&s->next);
	for (i = 0; i < s->now.count; i++)
		if (set_add(&s->reached, set_at(&s->now, i)))
			return TOO_MUCH;
	for (i = 0; i < s->reached.count; i++) {
		__u64 happened = set_at(&s->reached, i)[0];

		if (happened & bit) {
			memcpy(configuration, set_at(&s->reached, i), bytes);
			configuration[0] &= ~bit;
			if (set_add(&s->next, configuration))
				return TOO_MUCH;
			continue;
		}
		for (other = 0; other < HISTORY_ACTORS; other++) {
			if (!s->open[other] || happened >> other & 1)
				continue;
			memcpy(configuration, set_at(&s->reached, i), bytes);
			if (!step(s->history, configuration + 1, s->open[other]))
				continue;
			configuration[0] |= 1ull << other;
			if (set_add(&s->reached, configuration))
				return TOO_MUCH;
		}
	}
	swap = s->now;
	s->now = s->next;
	s->next = swap;
	if (s->now.count > s->history->report->configurations)
		s->history->report->configurations = s->now.count;
	return s->now.count ? ACCEPTED : REFUSED;
}

/* Whether a key is there whichever configuration is true, and whatever open operations do next. */
static int search_present(const struct search *s)
{
	unsigned actor;
	size_t i;

	for (actor = 0; actor < HISTORY_ACTORS; actor++) {
		const struct history_event *e = s->open[actor];

		if (e && !e->code &&
		    (e->operation == HISTORY_DELETE || e->operation == HISTORY_POP || e->operation == HISTORY_FREE))
			return 0;
	}
	for (i = 0; i < s->now.count; i++)
		if (!set_at(&s->now, i)[1])
			return 0;
	return 1;
}

/* A key that comes to be certainly there, or ceases to be. */
struct change {
	__u64 time;
	int by;
};

static int by_time(const void *one, const void *other)
{
	const struct change *a = one, *b = other;

	return a->time < b->time ? -1 : a->time > b->time;
}

/* One key's moments, from `first` to before `end`. */
static enum verdict search_key(struct search *s, size_t first, size_t end, struct change *changes, size_t *change_count)
{
	struct history *h = s->history;
	__u64 start[MOST_WORDS + 1] = {0};
	int present = 0;
	size_t i;

	set_clear(&s->now);
	if (set_add(&s->now, start))
		return TOO_MUCH;
	for (i = first; i < end; i++) {
		const struct moment *m = &h->moments[i];
		const struct operation *o = &h->operations[m->operation];

		if (m->returns) {
			enum verdict verdict = search_return(s, o->actor);

			if (verdict == REFUSED)
				say_where(h, first, i);
			if (verdict)
				return verdict;
			s->open[o->actor] = NULL;
			s->open_count--;
		} else {
			if (s->open[o->actor])
				return MALFORMED;
			s->open[o->actor] = o->event;
			s->open_count++;
		}
		if (h->model == REGISTER && search_present(s) != present) {
			present = !present;
			changes[*change_count].time = m->time;
			changes[(*change_count)++].by = present ? 1 : -1;
		}
	}
	return ACCEPTED;
}

static enum verdict search_all(struct history *h)
{
	struct search s = {.history = h};
	struct change *changes = malloc((h->moment_count + 1) * sizeof(*changes));
	size_t first, end, change_count = 0, i;
	enum verdict verdict = ACCEPTED;
	__u64 present = 0;

	s.now.stride = s.reached.stride = s.next.stride = 1 + state_words(h);
	if (!changes || set_grow(&s.now) || set_grow(&s.reached) || set_grow(&s.next))
		verdict = TOO_MUCH;
	for (first = 0; !verdict && first < h->moment_count; first = end) {
		end = key_end(h, first);
		verdict = search_key(&s, first, end, changes, &change_count);
	}
	if (!verdict) {
		qsort(changes, change_count, sizeof(*changes), by_time);
		for (i = 0; i < change_count; i++) {
			present += (__u64)(__s64)changes[i].by;
			if (present > h->report->present)
				h->report->present = present;
		}
		if (h->model == REGISTER && h->capacity && h->report->present > h->capacity) {
			say(h->report, "%llu keys at once, %llu fit", h->report->present, h->capacity);
			verdict = REFUSED;
		}
	}
	free(changes);
	free(s.now.words);
	free(s.now.slots);
	free(s.reached.words);
	free(s.reached.slots);
	free(s.next.words);
	free(s.next.slots);
	return verdict;
}

/* --- the patterns that no queue shows -------------------------------------------------- */

struct life {
	__u64 value;
	const struct operation *push, *take; /* take: NULL if it stays */
};

static int by_value(const void *one, const void *other)
{
	const struct life *a = one, *b = other;

	return a->value < b->value ? -1 : a->value > b->value;
}

static int by_push_return(const void *one, const void *other)
{
	const struct life *a = one, *b = other;
	__u64 x = a->push->event->returned, y = b->push->event->returned;

	return x < y ? -1 : x > y;
}

static int refuse(struct history *h, const char *why, const struct operation *one, const struct operation *other)
{
	say(h->report, "%s:", why);
	say_operation(h->report, one);
	if (other)
		say_operation(h->report, other);
	return REFUSED;
}

/*
 * A value is certainly in the queue from its push's return to its take's invocation. An empty
 * queue may be seen only at a moment when no value certainly is. `inside` has a place for each
 * gap between the moments of this queue, which are numbered by `first`.
 */
static enum verdict fifo_empty(struct history *h, size_t first, size_t end, struct life *lives, size_t life_count)
{
	size_t moments = end - first, i;
	int *inside = calloc(moments + 1, sizeof(*inside));
	size_t *begins = malloc((h->operation_count + 1) * sizeof(*begins));
	size_t *returns = malloc((h->operation_count + 1) * sizeof(*returns));
	enum verdict verdict = inside && begins && returns ? ACCEPTED : TOO_MUCH;
	size_t last_empty = 0; /* gaps before this number have been empty last at this one, plus 1 */

	for (i = 0; !verdict && i < moments; i++)
		(h->moments[first + i].returns ? returns : begins)[h->moments[first + i].operation] = i;
	for (i = 0; !verdict && i < life_count; i++) {
		size_t from = returns[lives[i].push - h->operations];
		size_t to = lives[i].take ? begins[lives[i].take - h->operations] : moments;

		if (from < to) {
			inside[from]++;
			inside[to]--;
		}
	}
	for (i = 0; !verdict && i < moments; i++) {
		const struct operation *o = &h->operations[h->moments[first + i].operation];

		/* Here inside[i - 1] is how many are certainly there in the gap before moment i. */
		if (h->moments[first + i].returns && o->event->operation == HISTORY_TAKE && o->event->code &&
		    last_empty <= begins[o - h->operations])
			verdict = refuse(h, "taken from an empty queue that was never empty meanwhile", o, NULL);
		if (i)
			inside[i] += inside[i - 1];
		if (!inside[i])
			last_empty = i + 1;
	}
	free(inside);
	free(begins);
	free(returns);
	return verdict;
}

static enum verdict fifo_queue(struct history *h, size_t first, size_t end)
{
	struct life *lives = calloc((end - first) / 2 + 1, sizeof(*lives));
	const struct operation *latest = NULL; /* of what was pushed first, what was taken last */
	size_t count = 0, i, at = 0;
	enum verdict verdict = ACCEPTED;

	if (!lives)
		return TOO_MUCH;
	for (i = first; i < end; i++) {
		const struct operation *o = &h->operations[h->moments[i].operation];
		const struct history_event *e = o->event;

		if (!h->moments[i].returns)
			continue;
		if (e->operation == HISTORY_PUSH && !e->code) {
			lives[count].value = e->in;
			lives[count++].push = o;
		} else if (!(e->operation == HISTORY_PUSH && e->code == ADS_FULL) &&
			   !(e->operation == HISTORY_TAKE && (!e->code || e->code == ADS_ABSENT))) {
			verdict = refuse(h, "no queue gives this", o, NULL);
			goto out;
		}
	}
	qsort(lives, count, sizeof(*lives), by_value);
	for (i = 1; i < count; i++)
		if (lives[i].value == lives[i - 1].value) {
			verdict = MALFORMED;
			goto out;
		}
	for (i = first; i < end; i++) {
		const struct operation *o = &h->operations[h->moments[i].operation];
		struct life wanted = {o->event->out, NULL, NULL}, *life;

		if (!h->moments[i].returns || o->event->operation != HISTORY_TAKE || o->event->code)
			continue;
		life = bsearch(&wanted, lives, count, sizeof(*lives), by_value);
		if (!life || life->push->event->invoked > o->event->returned) {
			verdict = refuse(h, "taken before it was pushed", o, life ? life->push : NULL);
			goto out;
		}
		if (life->take) {
			verdict = refuse(h, "taken twice", o, life->take);
			goto out;
		}
		life->take = o;
	}
	verdict = fifo_empty(h, first, end, lives, count);
	if (verdict)
		goto out;
	/* One pushed before another is not taken after it, nor left behind. Pushes are gone through
	 * by their invocations (moments are in order), with those that had returned by then. */
	qsort(lives, count, sizeof(*lives), by_push_return);
	for (i = first; i < end; i++) {
		const struct operation *o = &h->operations[h->moments[i].operation];
		struct life *life = NULL;
		size_t low = 0, high = count;

		if (h->moments[i].returns || o->event->operation != HISTORY_PUSH || o->event->code)
			continue;
		for (; at < count && lives[at].push->event->returned < o->event->invoked; at++) {
			const struct operation *take = lives[at].take;

			if (!take) {
				latest = lives[at].push; /* stays for ever */
				break;
			}
			if (!latest || take->event->invoked > latest->event->invoked)
				latest = take;
		}
		while (low < high) { /* its own life */
			size_t middle = (low + high) / 2;

			if (lives[middle].push->event->returned < o->event->returned)
				low = middle + 1;
			else
				high = middle;
		}
		life = &lives[low];
		if (!latest || !life->take)
			continue;
		if (latest->event->operation == HISTORY_PUSH || latest->event->invoked > life->take->event->returned) {
			verdict = refuse(h, "overtaken", life->take, latest);
			goto out;
		}
	}
out:
	free(lives);
	return verdict;
}

static enum verdict fifo_all(struct history *h)
{
	enum verdict verdict = ACCEPTED;
	size_t first, end;

	for (first = 0; !verdict && first < h->moment_count; first = end) {
		end = key_end(h, first);
		verdict = fifo_queue(h, first, end);
	}
	return verdict;
}

/* --- from logs ----------------------------------------------------------------------------- */

/*
 * Check the history that `actors` have written in logs[i] of counts[i] events. `capacity`: of
 * the structure; 0 for a REGISTER whose keys all fit. Returns a verdict; report->problem
 * tells why a history was refused.
 */
EXPORT int history_check(int model, int actors, const struct history_event *const *logs, const __u64 *counts,
			 __u64 capacity, struct report *report)
{
	struct history h = {.model = (enum model)model, .capacity = capacity, .report = report};
	enum verdict verdict = ACCEPTED;
	size_t total = 0;
	__u64 i;
	int actor;

	memset(report, 0, sizeof(*report));
	if (actors < 0 || actors > HISTORY_ACTORS || model < REGISTER || model > FIFO || (model != FIFO && !state_words(&h)))
		return MALFORMED;
	for (actor = 0; actor < actors; actor++)
		total += counts[actor];
	h.operations = calloc(total + 1, sizeof(*h.operations));
	h.moments = calloc(2 * total + 1, sizeof(*h.moments));
	if (!h.operations || !h.moments)
		verdict = TOO_MUCH;
	for (actor = 0; !verdict && actor < actors; actor++) {
		for (i = 0; i < counts[actor]; i++) {
			const struct history_event *e = &logs[actor][i];
			__u64 key = model == SORTED ? 0 : e->key;
			__u32 number = (__u32)h.operation_count++;
			struct moment invoked = {key, e->invoked, number, 0}, returned = {key, e->returned, number, 1};

			if (e->invoked >= e->returned)
				verdict = MALFORMED;
			h.operations[number].event = e;
			h.operations[number].actor = (__u32)actor;
			h.moments[h.moment_count++] = invoked;
			h.moments[h.moment_count++] = returned;
			report->full += e->code == ADS_FULL;
		}
	}
	report->operations = h.operation_count;
	if (!verdict) {
		count_all(&h);
		verdict = model == FIFO ? fifo_all(&h) : search_all(&h);
	}
	free(h.operations);
	free(h.moments);
	return verdict;
}
