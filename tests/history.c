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
 *	CELL		a word, for each key
 *	SORTED		orders or keys and values, as one
 *	NODES		two lists of `capacity` nodes, of which each is in one at most, as one
 *	QUEUE		the values in a queue of `capacity`, for each queue: any number at both ends
 *	RING		the records in a ring of `capacity` bytes, for each ring
 *	OVERWRITING	the same, when it drops the oldest
 *	FIFO		each queue again, without its capacity, by the patterns that no queue shows
 *			(Bouajjani, Emmi, Enea, Hamza: On Reducing Linearizability to State
 *			Reachability, 2015): another way to the same answer, in n log n steps
 *
 * Two pushes at the same time may be in a queue in either order until they are taken, n pairs of them
 * in 2^n orders. So what becomes of a value is looked up before: no order is gone on with in which a
 * value is behind one that is taken after it.
 */
#include "programs/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum model { REGISTER, SORTED, QUEUE, FIFO, CELL, NODES, RING, OVERWRITING };

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

/* Actors, and each once more: its iteration's end may be of the step before. */
#define LANES (2 * HISTORY_ACTORS)

struct operation {
	const struct history_event *event;
	__u32 actor;
	__u32 excused;			/* NODES: another that was about to link its node ran meanwhile */
	__u64 taken_from, taken_until;	/* QUEUE: by which operation, ~0: by none */
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

#include "history_models.h"

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

	say(report, "\n  [%llu, %llu] actor %u: %s list %u key %llu in %#llx: %d, out %#llx", e->invoked, e->returned,
	    o->actor, e->operation < OPERATIONS ? operation_names[e->operation] : "?", e->list, e->key, e->in, e->code,
	    e->out);
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

/* --- sets of configurations ----------------------------------------------------------- */

/* A configuration: one word with a bit for each lane whose open operation has happened, above them
 * one for each that has seen what it will take, and the words of the state. */
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
	struct operation *open[LANES];
	unsigned open_count;
	struct set now, reached, next;
};

static unsigned lane_of(const struct operation *o)
{
	return o->actor + (o->event->operation == HISTORY_END ? HISTORY_ACTORS : 0);
}

#define HAPPENED(lane) (1ull << (lane))
#define SEEN(lane) (1ull << LANES << (lane))

/* What open operations can see now they have seen: that cannot harm. */
static void search_see(const struct search *s, __u64 *configuration)
{
	unsigned lane;

	if (s->history->model != SORTED && s->history->model != NODES)
		return;
	for (lane = 0; lane < HISTORY_ACTORS; lane++)
		if (s->open[lane] && !(configuration[0] & HAPPENED(lane)) &&
		    history_sees(s->history, configuration + 1, s->open[lane]->event))
			configuration[0] |= SEEN(lane);
}

/* One step of an open operation. */
static int search_step(const struct search *s, __u64 *configuration, unsigned lane)
{
	int stepped = step(s->history, configuration + 1, s->open[lane], !!(configuration[0] & SEEN(lane)));

	if (stepped == STEP_DONE) {
		configuration[0] |= HAPPENED(lane);
		configuration[0] &= ~SEEN(lane);
	}
	if (stepped)
		search_see(s, configuration);
	return stepped;
}

/* After the return of an actor's operation: which configurations explain it. */
static enum verdict search_return(struct search *s, unsigned lane)
{
	__u64 configuration[MOST_WORDS + 1];
	size_t bytes = s->now.stride * sizeof(__u64), i;
	struct set swap;
	unsigned other;

	if (s->now.count == 1 && s->open_count == 1) {
		__u64 *only = set_at(&s->now, 0);

		search_see(s, only);
		while (!(only[0] & HAPPENED(lane)))
			if (!search_step(s, only, lane))
				return REFUSED;
		only[0] = 0;
		return ACCEPTED;
	}
	set_clear(&s->reached);
	set_clear(&s->next);
	for (i = 0; i < s->now.count; i++) {
		memcpy(configuration, set_at(&s->now, i), bytes);
		search_see(s, configuration);
		if (set_add(&s->reached, configuration))
			return TOO_MUCH;
	}
	for (i = 0; i < s->reached.count; i++) {
		__u64 happened = set_at(&s->reached, i)[0];

		if (happened & HAPPENED(lane)) {
			memcpy(configuration, set_at(&s->reached, i), bytes);
			configuration[0] &= ~HAPPENED(lane);
			if (set_add(&s->next, configuration))
				return TOO_MUCH;
			continue;
		}
		for (other = 0; other < LANES; other++) {
			if (!s->open[other] || happened & HAPPENED(other))
				continue;
			memcpy(configuration, set_at(&s->reached, i), bytes);
			if (search_step(s, configuration, other) && set_add(&s->reached, configuration))
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
		const struct history_event *e = s->open[actor] ? s->open[actor]->event : NULL;

		if (e && !e->code &&
		    (e->operation == HISTORY_DELETE || e->operation == HISTORY_POP || e->operation == HISTORY_POP_FIRST ||
		     e->operation == HISTORY_FREE))
			return 0;
	}
	for (i = 0; i < s->now.count; i++)
		if (!set_at(&s->now, i)[1])
			return 0;
	return 1;
}

/* An operation begins: which of the open ones, and it, run together with one that links their node. */
static void search_excuse(const struct search *s, struct operation *o)
{
	unsigned lane;

	for (lane = 0; lane < LANES; lane++) {
		if (!s->open[lane])
			continue;
		o->excused |= nodes_excuse(o->event, s->open[lane]->event);
		s->open[lane]->excused |= nodes_excuse(s->open[lane]->event, o->event);
	}
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
		struct operation *o = &h->operations[m->operation];
		unsigned lane = lane_of(o);

		if (m->returns) {
			enum verdict verdict = search_return(s, lane);

			if (verdict == REFUSED)
				say_where(h, first, i);
			if (verdict)
				return verdict;
			s->open[lane] = NULL;
			s->open_count--;
		} else {
			if (s->open[lane])
				return MALFORMED;
			if (h->model == NODES)
				search_excuse(s, o);
			s->open[lane] = o;
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

/* --- what becomes of a queue's values ---------------------------------------------------------- */

struct fate {
	__u64 key, value;
	struct operation *push;
	int takes;
};

static int by_key_and_value(const void *one, const void *other)
{
	const struct fate *a = one, *b = other;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->value < b->value ? -1 : a->value > b->value;
}

/* Look up when each value is taken. Of one that is pushed or taken twice nothing is said. */
static enum verdict queue_fates(struct history *h)
{
	struct fate *fates = calloc(h->operation_count + 1, sizeof(*fates));
	size_t count = 0, i;

	if (!fates)
		return TOO_MUCH;
	for (i = 0; i < h->operation_count; i++) {
		struct operation *o = &h->operations[i];
		struct fate fate = {o->event->key, o->event->in, o, 0};

		o->taken_from = 0;
		o->taken_until = ~0ull;
		if (o->event->operation == HISTORY_PUSH && !o->event->code)
			fates[count++] = fate;
	}
	qsort(fates, count, sizeof(*fates), by_key_and_value);
	for (i = 1; i < count; i++)
		if (!by_key_and_value(&fates[i - 1], &fates[i]))
			goto out;
	for (i = 0; i < count; i++)
		fates[i].push->taken_from = ~0ull;
	for (i = 0; i < h->operation_count; i++) {
		const struct history_event *e = h->operations[i].event;
		struct fate wanted = {e->key, e->out, NULL, 0}, *fate;

		if (e->operation != HISTORY_TAKE || e->code)
			continue;
		fate = bsearch(&wanted, fates, count, sizeof(*fates), by_key_and_value);
		if (!fate)
			continue;
		fate->push->taken_from = fate->takes ? 0 : e->invoked;
		fate->push->taken_until = fate->takes ? ~0ull : e->returned;
		fate->takes++;
	}
out:
	free(fates);
	return ACCEPTED;
}

/* --- from logs ----------------------------------------------------------------------------- */

/* Whether it says of keys together that none of them is there: nothing of one. */
static int about_no_key(const struct history_event *e)
{
	return e->operation == HISTORY_LOWER_BOUND || e->operation == HISTORY_END || e->operation == HISTORY_POP_FIRST;
}

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
	if (actors < 0 || actors > HISTORY_ACTORS || model < REGISTER || model > OVERWRITING || (model != FIFO && !state_words(&h)))
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
			__u64 key = model == SORTED || model == NODES ? 0 : e->key;
			__u32 number = (__u32)h.operation_count;
			struct moment invoked = {key, e->invoked, number, 0}, returned = {key, e->returned, number, 1};

			report->operations++;
			if (model == REGISTER && e->code == ADS_ABSENT && about_no_key(e))
				continue;
			h.operation_count++;
			if (e->invoked >= e->returned)
				verdict = MALFORMED;
			h.operations[number].event = e;
			h.operations[number].actor = (__u32)actor;
			h.moments[h.moment_count++] = invoked;
			h.moments[h.moment_count++] = returned;
			report->full += e->code == ADS_FULL;
		}
	}
	if (!verdict && model == QUEUE)
		verdict = queue_fates(&h);
	if (!verdict) {
		count_all(&h);
		verdict = model == FIFO ? fifo_all(&h) : search_all(&h);
	}
	free(h.operations);
	free(h.moments);
	return verdict;
}
