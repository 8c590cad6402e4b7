/* SPDX-License-Identifier: MIT */
/*
 * interleave.c - runs the operations that ship through every interleaving, and kills them.
 *
 * Actors are coroutines in one process. Each shared operation of include/arenads calls
 * point() (atomic.h, ADS_POINTS), where an actor goes on, gives way to another, or dies.
 * A depth-first search replays a scenario with every sequence of such decisions:
 *
 *	scenario	a start state, and a program of one to four operations an actor
 *	schedule	one sequence of decisions; at most `bound` of them preempt an actor
 *	death		a schedule in which one actor is never resumed
 *
 * Preempting before an access that no other actor can notice is the same as preempting
 * before the actor's next access that one can. So only words count that two actors touch,
 * one of them writing; which those are is learnt by running, until nothing new is seen. And
 * an actor preempted before an access goes on only after somebody has made a difference to
 * it. --every-point does without this, to show that nothing is lost by it.
 *
 * After each schedule:
 *	- some order of the operations that real time allows, one after the other on a sorted
 *	  array, must give the results that were seen (Herlihy and Wing, 1990); an operation
 *	  that died has happened or has not
 *	- an iteration must return every key that was there throughout, each once, in order,
 *	  with a value that it had meanwhile
 *	- the check finds no error, no leak, and the books balance; after a death a reaper gives
 *	  back what the dead had in hand, and a survivor runs all operations
 *
 * Interleavings of whole steps only: what a weakly ordered machine may reorder between them
 * is not seen here.
 */
#define ADS_POINTS 1
#define _GNU_SOURCE 1
#define ADS_SCAN_AHEAD_FROM 1
#define ADS_ARRAY_CHUNK_BITS 4u /* two elements of 8 bytes a chunk */
#include <sched.h>
static int actor_cpu(void), actor_by_user(void);
struct ads_owner;
static struct ads_owner *actor_line(void);
static int actor_line_is_dead(const struct ads_owner *line);
static int actor_grace_period(void);
#define sched_getcpu actor_cpu /* the shard is the scenario's choice */
#define ads_by_user actor_by_user /* some actors stand for BPF programs, which cannot die */
#define ads_owner_line(arena) actor_line()
#define ads_owner_is_dead(line, who) actor_line_is_dead(line)
#define ads_grace_period(arena) actor_grace_period() /* the end of programs that are actors here */
#define OWNERS 8
#define ads_owners_of_size(size) OWNERS
#define ads_shards_used() 2
#include <arenads/user.h>

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define ARENA_BYTES (64 * ADS_KIB)
#define ACTORS 3
#define HISTORY 64     /* operations of one schedule */
#define RECORDS 16     /* entries that a scan or the model may hold */
#define MORE 24	       /* words that the model of a structure with a file of its own may keep */
#define DECISIONS 8192
#define POINT_LIMIT 20000 /* points of one schedule: more is a loop that does not end */
#define CELLS (ARENA_BYTES / 8)
#define CALLS CELLS /* stands for real time: a return writes it, the next call reads it */
#define LINES (ARENA_BYTES / ADS_LINE)
#define PENDING 1 /* result of an operation that has not returned */

/* --- what is explored -------------------------------------------------------------- */

enum subject { MAP, LIST, POOL, QUEUE, NAMES, OTHERS /* a structure with a file of its own, see struct exploration */ };

/*
 * A start state: operations, as of struct op, run one after the other.
 *	Da/2	this operation dies before its second write
 *	@1	what follows runs on CPU 1
 *	&	what follows is done by BPF programs
 *	M3	all memory but 3 cache lines is used up
 *	%7	the queue's positions start at 2^64 - 7
 * Verb X reaps: it gives back what those who died in the setup had in hand.
 */
struct state {
	const char *name;
	const char *setup;
	__u32 capacity;
	__u32 room; /* entries that memory allows at most, 0: more than the capacity */
};

/*
 * G get, I insert, R replace, U update, D delete, each with a key; S iterate over all, Sw in a sweep;
 * K update as one of a row, which keeps what it replaces, and k end the row; P push at the head, H look at the
 * first, T take it; W double a map's shortcuts; L length; A allocate an object, F free
 * object a, b ... of the setup, f free the object allocated last; B allocate a block; Q, q push
 * to and pop from the queue; N, n add and find a name. In a start state: ! a program
 * that never goes on has taken its CPU's spare entry.
 */
struct op {
	char verb, key;
	int actor;
	__u64 id;    /* key's place in the order, or what the operation returned as such */
	__u64 value; /* stored, or read */
	int rc;
	int count; /* of a scan */
	__u64 ids[RECORDS], values[RECORDS];
	__u64 invoked, returned; /* 0: never */
};

/* --- the arena and the things in it ------------------------------------------------ */

static struct ads_arena arena;
static enum subject subject;
static struct ads_ref ref;
static const struct state *state;
static char blank[ARENA_BYTES], image[ARENA_BYTES];
static unsigned char line_is_dirty[LINES];
static __u32 dirty[LINES], dirty_count;
static __u32 objects[26]; /* of the setup of a pool */
static __u32 object_count;

struct key {
	__u64 word[2];
};
static struct key keys[4];

/* --- actors ------------------------------------------------------------------------ */

struct actor {
	void *stack_pointer;
	char *stack;
	char program[32];
	int cpu;
	int by_user;	/* 0: stands for a BPF program */
	int line;	/* in the registry of writing threads */
	__u64 died_with;
	int writes;
	int dies_at_write; /* setup only */
	int finished, dead;
	int inside;	/* an operation, and stands for a BPF program */
	int waits_for;	/* bit actor: a grace period does not end before that one's operation; interleave_grace.h */
	__u32 waits_at; /* preempted before an access to this cell, */
	int waits_to;	/* of this kind; */
	int woken;	/* since then another's access has made a difference to it */
	__u32 object;
};

#define STACK_BYTES (64 * 1024)

static struct actor actors[ACTORS], *now; /* now: who runs; NULL: the explorer itself */
static int actor_count;
static void *main_stack_pointer;
static void actor_main(void);

static int actor_cpu(void)
{
	return now ? now->cpu : 0;
}

static int actor_by_user(void)
{
	return now ? now->by_user : 1;
}

static int line_is_dead[OWNERS];

static struct ads_owner *line_at(int line)
{
	__u32 first;

	ads_owners(&arena, &first);
	return ads_at(&arena, struct ads_owner, first + 64 * (__u32)line);
}

static struct ads_owner *actor_line(void)
{
	return line_at(now ? now->line : OWNERS - 1);
}

static int actor_line_is_dead(const struct ads_owner *line)
{
	return line_is_dead[line - line_at(0)];
}

#if defined(__x86_64__) && !defined(INTERLEAVE_UCONTEXT)
/* Save what a function call must preserve, change stacks. swapcontext() would make a
 * system call each time. */
void interleave_switch(void **save, void *load);
__asm__(".text\n"
	".globl interleave_switch\n"
	".hidden interleave_switch\n"
	".type interleave_switch, @function\n"
	"interleave_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size interleave_switch, .-interleave_switch\n");

static void actor_prepare(struct actor *actor)
{
	void **top = (void **)(void *)(actor->stack + STACK_BYTES - 64);

	*--top = NULL; /* where actor_main would return to */
	*--top = (void *)actor_main;
	actor->stack_pointer = top - 6;
}

static void switch_stacks(void **from, void *to)
{
	interleave_switch(from, to);
}
#else
#include <ucontext.h>

static ucontext_t contexts[ACTORS + 1];

static void actor_prepare(struct actor *actor)
{
	ucontext_t *context = &contexts[actor - actors];

	getcontext(context);
	context->uc_stack.ss_sp = actor->stack;
	context->uc_stack.ss_size = STACK_BYTES;
	context->uc_link = NULL;
	makecontext(context, actor_main, 0);
	actor->stack_pointer = context;
}

static void switch_stacks(void **from, void *to)
{
	*from = from == &main_stack_pointer ? &contexts[ACTORS]
					    : &contexts[(struct actor *)(void *)from - actors];
	swapcontext((ucontext_t *)*from, (ucontext_t *)to);
}
#endif
ADS_STATIC_ASSERT(__builtin_offsetof(struct actor, stack_pointer) == 0, "switch_stacks finds the actor");

/* --- decisions --------------------------------------------------------------------- */

static struct decision {
	unsigned char taken, options;
} decisions[DECISIONS];
static int decided, known;

static int bound, deaths_allowed, die_anywhere; /* of the search that is running */
static int preemptions, deaths, points;
static __u64 the_time;
static int tracing;
static int every_point; /* leave out nothing that seems to lead nowhere new */
static const char *problem; /* found while an actor ran */

static struct op history[HISTORY];
static int history_count, setting_up;

/*
 * Who touches a word: bit actor, and for a write bit 4 + actor. `learnt` has what was seen
 * on words that two actors touched in one schedule, one of them writing; `contested` is
 * what the search that is running goes by.
 */
static unsigned char touched[CELLS + 1], learnt[CELLS + 1], contested[CELLS + 1];
static __u64 touched_in[CELLS + 1]; /* the schedule that `touched` is about */
static __u64 this_schedule;
static int learnt_new;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
}

/* The next branch of the search: 0 .. options - 1. */
static int decide(int options)
{
	if (options < 2)
		return 0;
	if (decided == known) {
		if (known == DECISIONS) {
			problem = "too many decisions";
			return 0;
		}
		decisions[known++] = (struct decision){0, (unsigned char)options};
	} else if (decisions[decided].options != options) {
		problem = "the same decisions led elsewhere: something in the run is not repeatable";
		return 0;
	}
	return decisions[decided++].taken;
}

static int next_schedule(void)
{
	while (known && decisions[known - 1].taken + 1 == decisions[known - 1].options)
		known--;
	if (!known)
		return 0;
	decisions[known - 1].taken++;
	return 1;
}

static int may_run(const struct actor *actor)
{
	return !actor->finished && !actor->dead && !actor->waits_for;
}

static int others_that_run(const struct actor *me)
{
	int i, count = 0;

	for (i = 0; i < actor_count; i++)
		count += &actors[i] != me && may_run(&actors[i]);
	return count;
}

static void run_actor(struct actor *next)
{
	struct actor *me = now;

	now = next;
	switch_stacks(me ? &me->stack_pointer : &main_stack_pointer,
		      next ? next->stack_pointer : main_stack_pointer);
}

/* The `number`-th of the others that can run. */
static void run_other(const struct actor *me, int number)
{
	int i;

	for (i = 0; i < actor_count; i++)
		if (&actors[i] != me && may_run(&actors[i]) && !number--)
			break;
	if (tracing)
		say("      -> actor %d\n", i);
	run_actor(&actors[i]);
}

/* The actor will not go on: somebody else does, or the schedule is over. */
static void leave(void)
{
	int others = problem ? 0 : others_that_run(now);

	if (others)
		run_other(now, decide(others));
	else
		run_actor(NULL);
}

/* --- points ------------------------------------------------------------------------ */

static const char *const kind_names[] = {"load", "store", "cas", "add", "xchg", "hand"};

static void mark_dirty(__u32 at)
{
	if (!line_is_dirty[at / ADS_LINE]) {
		line_is_dirty[at / ADS_LINE] = 1;
		dirty[dirty_count++] = at / ADS_LINE;
	}
}

/* Whether this access and one of another actor to the same word could be told apart by order. */
static int is_contested(__u32 cell, int me, int kind)
{
	unsigned char others = (unsigned char)(contested[cell] & ~(0x11 << me));

	if (every_point)
		return 1;
	if (kind == ADS_POINT_ADD) /* counters: nobody looks at them here */
		return 0;
	return kind == ADS_POINT_LOAD ? others >> 4 : others;
}

static void touch(__u32 cell, int me, int kind)
{
	unsigned char bits = (unsigned char)((kind == ADS_POINT_LOAD ? 0x01 : 0x11) << me);
	unsigned char who;

	if (touched_in[cell] != this_schedule) {
		touched_in[cell] = this_schedule;
		touched[cell] = 0;
	}
	who = touched[cell] |= bits;
	if (!(who >> 4) || !(who & 15 & ((who & 15) - 1)) || (learnt[cell] & who) == who)
		return;
	learnt[cell] |= who;
	learnt_new = 1;
}

/* An access happens: whoever waits to touch the same word is no longer waiting for nothing. */
static void wake(__u32 cell, int kind)
{
	int i;

	for (i = 0; i < actor_count; i++)
		if (actors[i].waits_at == cell && (kind != ADS_POINT_LOAD || actors[i].waits_to != ADS_POINT_LOAD))
			actors[i].woken = 1;
}

/*
 * Whether giving way to this actor leads anywhere new. One that was preempted before an
 * access that nobody has disturbed since might as well have made it before: that
 * schedule is another one, with as many preemptions.
 */
static int is_worth_running(const struct actor *other)
{
	return other != now && may_run(other) && (!other->waits_at || other->woken || every_point);
}

/* The object of a pool that an actor has in hand and that is in use already, 0: none. */
static __u64 what_it_has(const struct actor *actor)
{
	__u64 hand = line_at(actor->line)->hand[0];
	__u32 entry = (__u32)hand & ADS_HAND_ENTRY;
	__u64 link = entry ? *(volatile __u64 *)(void *)(arena.base + entry) : 0;

	return link && !(link & ADS_LINK_MARK) && ads_link_version(link) == (__u32)(hand >> 32) + 1 ? entry + 16 : 0;
}

/* Before an access of the actor that runs: who goes on? */
static void decide_at(__u32 cell, int kind)
{
	struct actor *me = now;
	int die = deaths < deaths_allowed && me->by_user &&
		  (die_anywhere || (kind != ADS_POINT_LOAD && cell != CALLS));
	int others = 0, taken, i;

	if (preemptions < bound && is_contested(cell, (int)(me - actors), kind))
		for (i = 0; i < actor_count; i++)
			others += is_worth_running(&actors[i]);
	taken = decide(1 + others + die);
	if (!taken)
		return;
	if (taken > others) {
		if (tracing)
			say("      dies\n");
		deaths++;
		me->died_with = what_it_has(me);
		me->dead = line_is_dead[me->line] = 1;
		leave();
	}
	preemptions++;
	for (i = 0; i < actor_count; i++)
		if (is_worth_running(&actors[i]) && !--taken)
			break;
	me->waits_at = cell;
	me->waits_to = kind;
	me->woken = 0;
	if (tracing)
		say("      -> actor %d\n", i);
	run_actor(&actors[i]);
	me->waits_at = 0;
}

/* What an RCU grace period waits for: see interleave_grace.h. */
static int actor_grace_period(void)
{
	struct actor *me = now;
	int i;

	if (!me)
		return 0;
	touch(CALLS, (int)(me - actors), ADS_POINT_LOAD);
	decide_at(CALLS, ADS_POINT_LOAD);
	for (i = 0; i < actor_count; i++)
		me->waits_for |= actors[i].inside << i;
	if (me->waits_for)
		leave();
	return 0;
}

static void point(int kind, const volatile void *word)
{
	__u32 at = (__u32)((const volatile char *)word - arena.base);

	if (at >= ARENA_BYTES)
		return;
	if (kind != ADS_POINT_LOAD)
		mark_dirty(at);
	if (!now)
		return;
	now->writes += kind != ADS_POINT_LOAD && kind != ADS_POINT_HAND;
	if (tracing)
		say("    %d %-5s %5u %016llx\n", (int)(now - actors), kind_names[kind], at, *(const volatile __u64 *)word);
	if (problem || ++points > POINT_LIMIT) {
		if (!problem)
			problem = "an operation does not end";
		leave();
	}
	if (now->dies_at_write && kind != ADS_POINT_LOAD && kind != ADS_POINT_HAND &&
	    now->writes == now->dies_at_write) {
		now->dead = line_is_dead[now->line] = 1;
		leave();
	}
	touch(at / 8, (int)(now - actors), kind);
	decide_at(at / 8, kind);
	wake(at / 8, kind);
}

/* --- keys -------------------------------------------------------------------------- */

/* The inverse of an odd number modulo 2^64, by Newton's iteration. */
static __u64 inverse(__u64 odd)
{
	__u64 x = odd;
	int i;

	for (i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

/* A key of two words, the first of which is `first`, with the hash `hash`. */
static struct key key_with_hash(__u64 first, __u64 hash, __u64 seed)
{
	struct key key = {{first, 0}};
	__u64 after_first = (seed ^ first) * 0xbf58476d1ce4e5b9ull;
	__u64 folded = hash * inverse(0x94d049bb133111ebull);

	after_first ^= after_first >> 32;
	folded ^= folded >> 32;
	key.word[1] = after_first ^ (folded * inverse(0xbf58476d1ce4e5b9ull));
	return key;
}

/*
 * a and b have one hash. c is next to them; a growth from 8 to 16 shortcuts puts one between
 * them, with just c's hash. d is in another bucket. In the list's order: a b c d.
 */
static void choose_keys(void)
{
	const __u64 seed = 0x696e7465726c6561ull; /* the same in every run */

	ads_at(&arena, struct ads_header, ref.offset)->seed = seed;
	keys[0] = key_with_hash(2, 0x0fffffffffffffffull, seed);
	keys[1] = key_with_hash(3, 0x0fffffffffffffffull, seed);
	keys[2] = key_with_hash(1, 0x1000000000000000ull, seed);
	keys[3] = key_with_hash(4, 0xf000000000000000ull, seed);
}

static __u64 id_of_key(const struct key *key)
{
	int i;

	for (i = 0; i < 4; i++)
		if (!memcmp(key, &keys[i], sizeof(*key)))
			return (__u64)(10 + i);
	return 0;
}

/* The orders of a list that stand for the keys; z is the lowest there is. */
static __u64 order_of(char key)
{
	return key == 'z' ? 0 : key == 'y' ? 9 : (__u64)(10 + key - 'a');
}

static __u64 id_of(char key)
{
	return subject == LIST ? order_of(key) : (__u64)(10 + key - 'a');
}

/* --- structures with a file of their own --------------------------------------------- */

struct model;

/*
 * What interleave_NAME.h says of a structure, in a table of them at the end of this file. Verbs and
 * states mean what the functions here make of them.
 */
struct exploration {
	const char *name;	/* of its groups: NAME-... */
	__u32 kind;		/* for ads_collection_check(); 0: not checked */
	const char *survivor;	/* operations that a survivor runs after a death */
	const char *closing;	/* operations that tell what is in the structure at the end */
	const char *changes;	/* verbs that may have an entry in hand */
	void (*create)(void);	/* make the structure in the blank arena, put it into ref */
	void (*run)(struct op *op, __u32 *object); /* one operation; sets op->rc and what it found */
	/* Let op happen now: 1 if the model allows its result. A pending one happens if it can. -1: as
	 * for a map. */
	int (*apply)(struct model *m, const struct op *op);
	/* What is wrong with memory at the end, NULL: nothing. May be NULL. */
	const char *(*books)(int dead);
	void (*explore)(void); /* run_scenario() and explore_pairs() for all that matters */
	int keeps_order; /* the model is a queue: oldest first, ids not sorted */
};
static const struct exploration *exploration; /* the one that subject OTHERS is about */

/* --- operations -------------------------------------------------------------------- */

static __u64 fifo_start; /* the position at which a queue begins */

/* Read all that waits in a queue and take nothing, as through a read-only mapping. */
static void read_queue(struct op *op)
{
	struct ads_arena view = arena;
	struct ads_queue_cursor c;
	__u64 value[2];
	int rc;

	view.flags |= ADS_READONLY;
	rc = ads_queue_walk(&view, ref, &c);
	for (op->count = 0; !rc; op->count++) {
		rc = ads_queue_read(&view, ref, &c, value);
		if (rc)
			break;
		if (op->count == RECORDS || value[1] != ~value[0]) {
			rc = ADS_DAMAGED;
			break;
		}
		op->ids[op->count] = c.at - 1 - fifo_start;
		op->values[op->count] = value[0];
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

static void scan_all(struct op *op)
{
	struct ads_scan scan;
	struct key last = {{0, 0}}, key = {{0, 0}};
	__u64 value[2];
	__u32 entry;
	int rc = subject != LIST ? ads_hashmap_scan(&arena, ref, &scan)
				: ads_scan_start(&arena, &scan, ads_list_head(ref));

	for (op->count = 0; !rc; op->count++) {
		rc = ads_scan_next(&arena, &scan, ref, &last, &key, value, &entry);
		if (rc)
			break;
		if (op->count == RECORDS || value[1] != ~value[0]) {
			rc = ADS_DAMAGED;
			break;
		}
		last = key;
		op->ids[op->count] = subject == LIST ? scan.hash : id_of_key(&key);
		op->values[op->count] = value[0];
	}
	op->rc = rc == ADS_ABSENT ? ADS_OK : rc;
}

/* Two records a call, those of all parts, which come in no order that is seen from outside. */
static void sweep_all(struct op *op)
{
	struct ads_sweep sweep;
	struct {
		struct key key;
		__u64 value[2];
	} records[RECORDS + 2];
	__s64 rc = ads_hashmap_sweep(&arena, ref, &sweep);
	int count = 0, i;

	while (!rc && (rc = ads_hashmap_sweep_next(&arena, ref, &sweep, records, (__u64)count, 2)) > 0) {
		count += (int)rc;
		rc = count > RECORDS ? ADS_DAMAGED : ADS_OK;
	}
	op->count = 0;
	for (i = 0; !rc && i < count; i++) {
		__u64 id = id_of_key(&records[i].key);
		int at = op->count++;

		if (records[i].value[1] != ~records[i].value[0])
			rc = ADS_DAMAGED; /* torn */
		for (; at && op->ids[at - 1] > id; at--) {
			op->ids[at] = op->ids[at - 1];
			op->values[at] = op->values[at - 1];
		}
		op->ids[at] = id;
		op->values[at] = records[i].value[0];
	}
	op->rc = (int)rc;
}

static int run_on_entries(struct op *op, enum ads_update_mode mode)
{
	const struct key *key = &keys[(op->key - 'a') & 3];
	__u64 value[2] = {op->value, ~op->value};
	__u32 entry = 0;
	int rc;

	switch (op->verb) {
	case 'G':
		rc = subject != LIST ? ads_hashmap_get(&arena, ref, key, value)
				    : ads_list_get(&arena, ref, order_of(op->key), value);
		op->value = value[0];
		return !rc && value[1] != ~value[0] ? ADS_DAMAGED : rc; /* torn */
	case 'D':
		return subject != LIST ? ads_hashmap_delete(&arena, ref, key)
				      : ads_list_delete(&arena, ref, order_of(op->key));
	case 'P':
		return ads_list_push(&arena, ref, value, &op->id, &entry);
	case 'H':
	case 'T':
		rc = op->verb == 'H' ? ads_list_first(&arena, ref, &op->id, value)
				     : ads_list_pop_first(&arena, ref, &op->id, value);
		op->value = value[0];
		return !rc && value[1] != ~value[0] ? ADS_DAMAGED : rc;
	default:
		rc = subject != LIST ? ads_hashmap_update(&arena, ref, key, value, mode, &entry)
				    : ads_list_update(&arena, ref, order_of(op->key), value, mode, &entry);
		/* ADS_EXISTS must say where; it may have been deleted since. */
		return (!rc || rc == ADS_EXISTS) && !entry ? ADS_DAMAGED : rc;
	}
}

static void run_name(struct op *op)
{
	struct ads_directory_value value = {ADS_KIND_LIST, 0, (__u32)op->value, 0};
	char name[ADS_NAME_SIZE] = {op->key, 0};

	op->rc = op->verb == 'N' ? ads_directory_add(&arena, name, &value)
				 : ads_directory_find(&arena, name, &value);
	if (op->verb == 'n')
		op->value = value.schema_offset;
}

static void show_hands(void)
{
	int i, h;

	for (i = 0; tracing && i < OWNERS; i++)
		for (h = 0; h < 2; h++) {
			__u64 hand = line_at(i)->hand[h];
			__u32 entry = (__u32)hand & ADS_HAND_ENTRY;

			if (entry)
				say("    line %d hand %d: entry %u version %u%s, link %016llx\n", i, h, entry,
				    (__u32)(hand >> 32), hand & ADS_HAND_AIMED ? " aimed" : "",
				    ads_load(ads_link_of(&arena, entry)));
		}
}

static void run_op(struct op *op, __u32 *object)
{
	__u64 value[2] = {op->value, ~op->value};
	__u32 at = 0;
	int rc = ADS_INVALID;

	if (op->verb == 'X' && !op->key) {
		show_hands();
		op->rc = ads_owner_reap(&arena, NULL) < 0 ? ADS_DAMAGED : ADS_OK;
		return;
	}
	if (exploration) {
		exploration->run(op, object);
		return;
	}
	switch (op->verb) {
	case 'S':
		if (subject == QUEUE)
			read_queue(op);
		else if (op->key == 'w')
			sweep_all(op);
		else
			scan_all(op);
		return;
	case 'L':
		op->value = ads_collection_len(&arena, ref);
		rc = ADS_OK;
		break;
	case 'W':
		ads_table_grow(&arena, ref.offset); /* if it cannot, all goes on as before */
		rc = ADS_OK;
		break;
	case 'K':
		rc = ads_hashmap_update_next(&arena, ref, &keys[(op->key - 'a') & 3], value, ADS_ANY, &at, object);
		break;
	case 'k':
		ads_hashmap_let_go(&arena, ref, object);
		rc = ADS_OK;
		break;
	case 'A':
		rc = ads_pool_alloc(&arena, ref, &at);
		op->id = at;
		*object = rc ? 0 : at;
		break;
	case 'F':
	case 'f':
		at = op->verb == 'f' ? *object : objects[op->key - 'a'];
		op->id = at;
		rc = at ? ads_pool_free(&arena, ref, at) : ADS_INVALID;
		break;
	case 'B':
		rc = ads_alloc(&arena, 24, &at);
		op->id = at;
		break;
	case 'Q':
		rc = ads_queue_push(&arena, ref, value);
		break;
	case 'q':
		rc = ads_queue_pop(&arena, ref, value);
		op->value = value[0];
		if (!rc && value[1] != ~value[0])
			rc = ADS_DAMAGED;
		break;
	case 'N':
	case 'n':
		run_name(op);
		return;
	default:
		rc = run_on_entries(op, op->verb == 'I'	  ? ADS_INSERT
					: op->verb == 'R' ? ADS_REPLACE
							  : ADS_ANY);
	}
	op->rc = rc;
}

/* One operation as an event of the history. */
static void perform(const char *word, int actor, __u32 *object)
{
	struct op *op = &history[history_count];
	int i, own = 0;

	for (i = 0; i < history_count; i++)
		own += history[i].actor == actor;
	if (history_count == HISTORY) {
		problem = "the history is too long";
		return;
	}
	memset(op, 0, __builtin_offsetof(struct op, ids));
	op->verb = word[0];
	op->key = word[1] && word[1] != ' ' ? word[1] : 0;
	op->actor = actor;
	op->id = op->key ? id_of(op->key) : 0;
	op->value = (__u64)(1000 * (actor + !setting_up) + own); /* the same in every schedule */
	op->rc = PENDING;
	op->returned = 0;
	history_count++;
	op->invoked = ++the_time;
	if (now)
		now->inside = !now->by_user;
	run_op(op, object);
	op->returned = ++the_time;
	if (now) {
		now->inside = 0;
		for (i = 0; i < actor_count; i++)
			actors[i].waits_for &= ~(1 << actor);
		touch(CALLS, actor, ADS_POINT_STORE);
		wake(CALLS, ADS_POINT_STORE);
	}
	if (tracing)
		say("    %d %c%c returns %d\n", actor, op->verb, op->key ? op->key : ' ', op->rc);
}

static const char *next_word(const char *text)
{
	while (*text && *text != ' ')
		text++;
	while (*text == ' ')
		text++;
	return text;
}

static void actor_main(void)
{
	for (;;) {
		const char *word;

		for (word = now->program; *word; word = next_word(word)) {
			if (word != now->program) {
				touch(CALLS, (int)(now - actors), ADS_POINT_LOAD);
				decide_at(CALLS, ADS_POINT_LOAD);
			}
			perform(word, (int)(now - actors), &now->object);
		}
		now->finished = 1;
		leave();
	}
}

/* --- the sequential model ---------------------------------------------------------- */

/* Sorted by id; a queue: oldest first. */
struct model {
	int count;
	__u64 ids[RECORDS], values[RECORDS];
	__u64 more[MORE];
};

static struct model start_model;
static int start_dead; /* operations that died in the setup, */
static int start_lost; /* entries that they took with them or left deleted but linked */

static void model_copy(struct model *to, const struct model *from)
{
	to->count = from->count;
	memcpy(to->ids, from->ids, (size_t)from->count * sizeof(from->ids[0]));
	memcpy(to->values, from->values, (size_t)from->count * sizeof(from->values[0]));
	if (exploration || subject == QUEUE)
		memcpy(to->more, from->more, sizeof(from->more));
}

static int model_find(const struct model *m, __u64 id)
{
	int i;

	for (i = 0; i < m->count; i++)
		if (m->ids[i] == id)
			return i;
	return -1;
}

static int in_sequence(void)
{
	return exploration ? exploration->keeps_order : subject == QUEUE;
}

static int model_add(struct model *m, __u64 id, __u64 value)
{
	int i;

	if (m->count == RECORDS)
		return 0;
	for (i = m->count++; i > 0 && !in_sequence() && m->ids[i - 1] > id; i--) {
		m->ids[i] = m->ids[i - 1];
		m->values[i] = m->values[i - 1];
	}
	m->ids[i] = id;
	m->values[i] = value;
	return 1;
}

static void model_remove(struct model *m, int at)
{
	for (m->count--; at < m->count; at++) {
		m->ids[at] = m->ids[at + 1];
		m->values[at] = m->values[at + 1];
	}
}

static int changes_entries(const struct op *op)
{
	return !!strchr(exploration ? exploration->changes : "IRUKkDPTAFf", op->verb);
}

/* Entries that others may have had in their hands while `op` ran. */
static int held_by_others(const struct op *op)
{
	int i, held = start_lost;

	for (i = 0; i < history_count; i++) {
		const struct op *other = &history[i];

		held += other != op && other->actor != op->actor && changes_entries(other) &&
			(!op->returned || other->invoked < op->returned);
	}
	return held;
}

/* No entry to be had: all are in use, or in hands. */
static int may_lack_entries(const struct model *m, const struct op *op, int replaces)
{
	__u32 used = (__u32)(m->count + held_by_others(op));
	int i;

	for (i = 0; op->rc == ADS_NO_MEMORY && i < history_count; i++)
		used += history[i].verb == 'B'; /* took memory that an entry could have had */

	if (replaces)
		return 0; /* there are spare entries for that */
	if (op->rc == ADS_NO_MEMORY)
		return state->room && used >= state->room;
	return op->rc == ADS_FULL && used >= state->capacity;
}

static int single_steps; /* two actors run one operation each */
static int bpf_actors;	 /* bit i: actor i stands for a BPF program */

/* The order that push gives: one below the first. The first it saw may have gone since. */
static int pushed_order_fits(const struct model *m, __u64 order)
{
	if (single_steps)
		return order == (m->count ? m->ids[0] - 1 : ADS_LIST_FIRST_ORDER);
	return !m->count || order < m->ids[0];
}

/* Whether somebody else may have put an entry there while op ran. */
static int inserted_meanwhile(const struct op *op, __u64 id)
{
	int i;

	for (i = 0; i < history_count; i++) {
		const struct op *other = &history[i];

		if (other->id == id && strchr("IUP", other->verb) && (!op->returned || other->invoked < op->returned) &&
		    (!other->returned || other->returned > op->invoked))
			return 1;
	}
	return 0;
}

/* Whether the first to read it all after a death misses an entry. */
static int is_missed(__u64 id, __u64 value)
{
	int i, r;

	for (i = 0; i < history_count; i++) {
		const struct op *seen = &history[i];

		if (seen->verb != 'S' || seen->actor < ACTORS)
			continue;
		for (r = 0; r < seen->count; r++)
			if (seen->ids[r] == id && seen->values[r] == value)
				return 0;
		return 1;
	}
	return 0;
}

/* Take the first; it was that when it was found, lower ones have come since. Which one the dead took is seen by
 * what is missed, else it was put back. */
static int model_take_first(struct model *m, const struct op *op)
{
	int pending = op->rc == PENDING, at;

	if (!m->count)
		return op->rc == ADS_ABSENT;
	if (!pending && op->rc)
		return 0;
	for (at = 0; at < m->count; at++) {
		if (pending ? is_missed(m->ids[at], m->values[at]) : m->ids[at] == op->id) {
			if (!pending && m->values[at] != op->value)
				return 0;
			model_remove(m, at);
			return 1;
		}
		if (!inserted_meanwhile(op, m->ids[at]))
			break;
	}
	if (pending)
		model_remove(m, 0);
	return pending;
}

/* Let op happen now: 1 if the model allows its result. A pending one happens if it can. */
static int model_apply(struct model *m, const struct op *op)
{
	int at = op->verb == 'P' ? -1 : model_find(m, op->id);
	int pending = op->rc == PENDING;
	int full = (__u32)m->count >= state->capacity;

	if (op->verb == 'X' && !op->key)
		return pending || op->rc == ADS_OK;
	if (exploration) {
		int allowed = exploration->apply(m, op);

		if (allowed >= 0)
			return allowed;
	}
	switch (op->verb) {
	case 'G':
	case 'n':
		if (pending)
			return 0;
		return at < 0 ? op->rc == ADS_ABSENT : op->rc == ADS_OK && m->values[at] == op->value;
	case 'N':
	case 'I':
		if (at >= 0)
			return op->rc == ADS_EXISTS;
		break;
	case 'R':
		if (at < 0)
			return op->rc == ADS_ABSENT;
		break;
	case 'D':
		if (at < 0)
			return op->rc == ADS_ABSENT;
		if (!pending && op->rc)
			return 0;
		model_remove(m, at);
		return 1;
	case 'H':
		if (pending || !m->count)
			return op->rc == ADS_ABSENT;
		return op->rc == ADS_OK && m->ids[0] == op->id && m->values[0] == op->value;
	case 'T':
		return model_take_first(m, op);
	case 'P':
		if (m->count && !m->ids[0])
			return op->rc == ADS_FULL;
		if (pending)
			return !full && model_add(m, m->count ? m->ids[0] - 1 : ADS_LIST_FIRST_ORDER, op->value);
		if (op->rc)
			return may_lack_entries(m, op, 0);
		return !full && pushed_order_fits(m, op->id) && model_add(m, op->id, op->value);
	case 'A':
		if (pending)
			return op->id && at < 0 && !full && model_add(m, op->id, 0);
		if (op->rc)
			return may_lack_entries(m, op, 0);
		return !full && at < 0 && model_add(m, op->id, 0);
	case 'F':
	case 'f':
		if (at < 0)
			return op->rc == ADS_INVALID;
		if (!pending && op->rc)
			return 0;
		model_remove(m, at);
		return 1;
	case 'Q':
		if (full)
			return op->rc == ADS_FULL;
		/* Known by its position. */
		return (pending || !op->rc) && model_add(m, m->more[0]++, op->value);
	case 'q':
		if (!m->count)
			return op->rc == ADS_ABSENT;
		if (!pending && (op->rc || op->value != m->values[0]))
			return 0;
		model_remove(m, 0);
		return 1;
	case 'B':
		return pending ? 0 : op->rc == ADS_OK || (op->rc == ADS_NO_MEMORY && state->room);
	case 'W':
		return !pending;
	case 'k':
	case 'X':
		return pending || op->rc == ADS_OK;
	case 'L':
		return !pending && op->value >= (__u64)m->count &&
		       op->value <= (__u64)(m->count + held_by_others(op));
	default:
		break;
	}
	/* insert, replace or update stores */
	if (!pending && op->rc)
		return may_lack_entries(m, op, at >= 0);
	if (at < 0)
		return !full && model_add(m, op->id, op->value);
	m->values[at] = op->value;
	return 1;
}

/* --- is there an order that explains what was seen? -------------------------------- */

static struct model after[HISTORY + 1]; /* the model after the first n operations of the order */
static int position[HISTORY];		/* of an operation in the order, -1: not placed */
static const struct model *last_model;	/* after all of them */

static int scan_fits(const struct op *scan, int placed)
{
	int first = 0, last = placed, i, s;

	for (i = 0; i < history_count; i++) {
		if (position[i] < 0)
			continue;
		if (history[i].returned && history[i].returned < scan->invoked && position[i] + 1 > first)
			first = position[i] + 1;
		if (history[i].invoked > scan->returned && position[i] < last)
			last = position[i];
	}
	for (i = 0; i < scan->count; i++) {
		int seen = 0;

		if (i && scan->ids[i] <= scan->ids[i - 1])
			return 0;
		for (s = first; s <= last && !seen; s++) {
			int at = model_find(&after[s], scan->ids[i]);

			seen = at >= 0 && after[s].values[at] == scan->values[i];
		}
		if (!seen)
			return 0;
	}
	for (i = 0; i < after[first].count; i++) {
		__u64 id = after[first].ids[i];
		int throughout = 1, returned = 0, r;

		for (s = first; s <= last; s++)
			throughout = throughout && model_find(&after[s], id) >= 0;
		for (r = 0; r < scan->count; r++)
			returned = returned || scan->ids[r] == id;
		if (throughout && !returned)
			return 0;
	}
	return 1;
}

static int explained(__u64 placed, int count)
{
	int i, j, left = 0;

	for (i = 0; i < history_count; i++)
		left += !(placed >> i & 1) && history[i].verb != 'S' && history[i].rc != PENDING;
	if (!left) {
		for (i = 0; i < history_count; i++)
			if (history[i].verb == 'S' && history[i].returned &&
			    (history[i].rc || !scan_fits(&history[i], count)))
				break;
		if (i == history_count) {
			last_model = &after[count];
			return 1;
		}
	}
	for (i = 0; i < history_count; i++) {
		if (placed >> i & 1 || history[i].verb == 'S')
			continue;
		for (j = 0; j < history_count; j++)
			if (!(placed >> j & 1) && history[j].verb != 'S' && history[j].returned &&
			    history[j].returned < history[i].invoked)
				break;
		if (j < history_count)
			continue;
		model_copy(&after[count + 1], &after[count]);
		if (!model_apply(&after[count + 1], &history[i]))
			continue;
		position[i] = count;
		if (explained(placed | 1ull << i, count + 1))
			return 1;
		position[i] = -1;
	}
	return 0;
}

static int history_is_explained(void)
{
	int i;

	for (i = 0; i < history_count; i++)
		position[i] = -1;
	model_copy(&after[0], &start_model);
	return explained(0, 0);
}

/* --- start states ------------------------------------------------------------------ */

static void give_up(const char *what, int rc)
{
	say("interleave: %s: %d\n", what, rc);
	fflush(stdout);
	_exit(2);
}

/* Use up the memory but for `lines` cache lines. */
static void fill_memory(__u32 lines)
{
	__u64 left = arena.size - ads_root_of(&arena)->cursor - 8;
	__u32 at;

	if (left / ADS_LINE > lines && ads_alloc(&arena, (left / ADS_LINE - lines) * ADS_LINE - 8, &at))
		give_up("cannot fill the memory", 0);
}

static void create_subject(void)
{
	static const __u32 kinds[] = {ADS_KIND_HASHMAP, ADS_KIND_LIST, ADS_KIND_POOL, ADS_KIND_QUEUE, 0};
	int rc = ADS_OK;

	int i;

	memcpy(arena.base, blank, ARENA_BYTES);
	memset(&ref, 0, sizeof(ref));
	memset(line_is_dead, 0, sizeof(line_is_dead));
	for (i = 0; i < OWNERS; i++)
		line_at(i)->who = (__u64)(i + 1) << 32 | (__u64)(i + 1);
	memset(&ref, 0, sizeof(ref));
	ref.key_size = subject == MAP ? 16 : 0;
	ref.value_size = 16;
	if (exploration) {
		exploration->create();
		return;
	}
	if (subject == QUEUE)
		rc = ads_queue_create(&arena, &ref, state->capacity);
	else if (subject != NAMES)
		rc = ads_hashmap_create(&arena, kinds[subject], &ref, state->capacity, 4); /* 8 shortcuts */
	if (rc)
		give_up("cannot create the structure", rc);
	if (subject == MAP)
		choose_keys();
}

static void forget_history(void)
{
	history_count = 0;
	the_time = 0;
	problem = NULL;
}

static int run_check(struct ads_check_report *report, int repair);

static __u32 lent, lender; /* the spare entry that some other program has from the start to the end */

static void set_up(const struct state *chosen)
{
	struct ads_check_report report;
	const char *word;
	int cpu = 0, by_user = 1;

	state = chosen;
	setting_up = 1;
	fifo_start = lent = 0;
	create_subject();
	forget_history();
	object_count = 0;
	deaths_allowed = bound = preemptions = points = start_dead = 0;
	actor_count = 1;
	actors[0].waits_at = 0;
	for (word = chosen->setup; *word; word = next_word(word)) {
		struct actor *actor = &actors[0];
		int length = (int)strcspn(word, " /");
		int dies_at = word[length] == '/' ? atoi(word + length + 1) : 0;

		if (*word == '@') {
			cpu = word[1] - '0';
			continue;
		}
		if (*word == '&') {
			by_user = 0;
			continue;
		}
		if (*word == 'M') {
			fill_memory((__u32)(word[1] - '0'));
			continue;
		}
		if (*word == '!') {
			lent = ads_spare_take(&arena, ads_pool_of(ref), &lender);
			continue;
		}
		if (*word == '%') {
			struct ads_queue *ring = ads_at(&arena, struct ads_queue, ref.offset);

			fifo_start = 0 - (__u64)(word[1] - '0');
			ring->head = ring->tail = ring->head_seen = ring->tail_seen = fifo_start;
			continue;
		}
		snprintf(actor->program, sizeof(actor->program), "%.*s", length, word);
		actor->cpu = cpu;
		actor->by_user = by_user;
		actor->line = start_dead;
		actor->writes = actor->finished = actor->dead = 0;
		actor->dies_at_write = dies_at;
		actor_prepare(actor);
		run_actor(actor);
		actor->dies_at_write = 0;
		if (problem || (dies_at && !actor->dead))
			give_up(problem ? problem : "the setup's victim did not die", dies_at);
		start_dead += actor->dead;
		if (history[history_count - 1].verb == 'A')
			objects[object_count++] = (__u32)history[history_count - 1].id;
	}
	memset(&start_model, 0, sizeof(start_model));
	start_lost = 0;
	if (subject == MAP || subject == LIST || subject == POOL || (exploration && exploration->kind)) {
		if (run_check(&report, 0) || report.errors)
			say("%s: errors %llu at %llu live %llu deleted %llu free %llu unused %llu carved %llu leaked %llu\n", chosen->name, report.errors, report.error_at, report.live, report.deleted, report.free, report.unused, report.carved, report.leaked), give_up("the start state is damaged", (int)report.errors);
		start_lost = (int)(report.leaked + report.deleted);
	}
	if (!history_is_explained())
		give_up("the start state is not explained", 0);
	start_model = *last_model;
	if (subject == MAP || subject == LIST || (exploration && !strcmp(exploration->closing, "S"))) {
		struct op *scan = &history[history_count]; /* what the dead did is read */

		memset(scan, 0, sizeof(*scan));
		scan->verb = 'S';
		run_op(scan, NULL);
		start_model.count = scan->count;
		memcpy(start_model.ids, scan->ids, sizeof(scan->ids));
		memcpy(start_model.values, scan->values, sizeof(scan->values));
	}
	setting_up = 0;
	memcpy(image, arena.base, ARENA_BYTES);
	dirty_count = 0;
	memset(line_is_dirty, 0, sizeof(line_is_dirty));
}

static void restore(void)
{
	__u32 i;

	if (subject == NAMES) { /* making the directory writes without points */
		memcpy(arena.base, image, ARENA_BYTES);
		return;
	}
	for (i = 0; i < dirty_count; i++) {
		memcpy(arena.base + dirty[i] * ADS_LINE, image + dirty[i] * ADS_LINE, ADS_LINE);
		line_is_dirty[dirty[i]] = 0;
	}
	dirty_count = 0;
}

/* --- one schedule ------------------------------------------------------------------ */

static __u64 schedules, deaths_seen, scenarios, longest;
static const char *programs[ACTORS];
static const int *cpus;

static const char *const survivor_program[] = {
	"Ga Gb Gc Gd Ua Ga Da Ga Ib Rc Dc", /* map */
	"S Ga Gb Gc Gd H P T Ua Ga Da Ga Ib Rc Dc", /* list */
	"A A f",
	"Q q q Q",
	"Na Nb na nb",
};

static int run_check(struct ads_check_report *report, int repair)
{
	static const __u32 kinds[] = {ADS_KIND_HASHMAP, ADS_KIND_LIST, ADS_KIND_POOL};
	struct ads_ref checked = ref;

	if (subject == NAMES) {
		int rc = ads_directory(&arena, 0, &checked);

		memset(report, 0, sizeof(*report));
		if (rc)
			return rc == ADS_ABSENT ? ADS_OK : rc;
		return ads_collection_check(&arena, ADS_KIND_LIST, checked, repair, report);
	}
	if (exploration)
		return ads_collection_check(&arena, exploration->kind, ref, repair, report);
	return ads_collection_check(&arena, kinds[subject], ref, repair, report);
}

/* Every block is whole, and what B returned are blocks. */
static const char *heap_problem(void)
{
	__u64 at = ADS_HEAP_OFFSET, cursor = ads_root_of(&arena)->cursor;
	int i, blocks = 0, wanted = 0;

	while (at < cursor || (at + 8 <= arena.size && *ads_at(&arena, __u64, at))) {
		__u64 bytes = ads_block_bytes(&arena, *ads_at(&arena, __u64, at));

		if (!bytes || at + bytes > arena.size)
			return "the heap cannot be walked";
		for (i = 0; i < history_count; i++)
			blocks += history[i].verb == 'B' && !history[i].rc && history[i].id == at + 8;
		at += bytes;
	}
	for (i = 0; i < history_count; i++)
		wanted += history[i].verb == 'B' && !history[i].rc;
	return blocks == wanted ? NULL : "a block was handed out twice, or is none";
}

static void perform_all(const char *words, int actor)
{
	__u32 object = 0;

	for (; *words; words = next_word(words))
		perform(words, actor, &object);
}

static int has_length(void)
{
	return subject != NAMES && subject != OTHERS;
}

static const char *books_problem(int dead)
{
	struct ads_check_report report;
	/* Objects of the dead may be live: nobody knows that their owner is not. */
	__u64 lost = subject == POOL ? (__u64)(dead + start_dead) : 0;
	__u64 live = 0;
	int rc;

	if (subject == QUEUE || (exploration && !exploration->kind))
		return NULL;
	rc = run_check(&report, 0);
	if (rc)
		return "the check could not run";
	if (report.errors)
		return "the check found an error";
	if (subject == MAP || subject == LIST)
		live = (__u64)history[history_count - 1].count; /* of the closing scan */
	if ((subject == MAP || subject == LIST) && report.live != live)
		return "the check counts other entries than the scan";
	/* An object that a dead actor had taken may be live, whom nobody knows to be dead. */
	if (subject == POOL && (report.live < (__u64)last_model->count ||
				report.live > (__u64)last_model->count + lost))
		return "the check counts other objects than were handed out";
	if (report.leaked || ((dead || start_dead) && report.deleted))
		return "entries were leaked";
	if (has_length() && ads_collection_len(&arena, ref) != report.live + report.deleted)
		return "the pool counts other entries than the check";
	if (!dead && !start_dead)
		return NULL;
	rc = run_check(&report, 1);
	if (rc || report.errors)
		return "repair failed";
	rc = run_check(&report, 0);
	if (rc || report.errors || report.leaked || report.deleted)
		return "repair left something undone";
	if (has_length() && ads_collection_len(&arena, ref) != report.live + report.deleted)
		return "after a repair the pool counts other entries than the check";
	return NULL;
}

static __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

/* What a schedule led to: memory, results, and if `timed` what came before what. */
static __u64 outcome(int timed)
{
	__u64 memory = 0, events = (__u64)deaths;
	__u32 i, w;
	int actor, r;

	for (i = 0; i < dirty_count; i++) {
		__u64 at = (__u64)dirty[i] * ADS_LINE, line = at;
		const __u64 *is = ads_at(&arena, __u64, at);

		if (!memcmp(is, image + at, ADS_LINE))
			continue;
		for (w = 0; w < ADS_LINE / 8; w++)
			line = mix(line, is[w]);
		memory += line; /* lines in any order */
	}
	for (actor = 0; actor < actor_count; actor++)
		for (r = 0; r < history_count; r++) {
			const struct op *op = &history[r];

			if (op->actor != actor)
				continue;
			events = mix(events, (__u64)op->verb << 8 | (__u64)op->key << 16 | (__u64)op->actor);
			events = mix(mix(mix(events, op->id), op->value), (__u64)op->rc);
			if (timed)
				events = mix(events, op->invoked << 32 | op->returned);
			for (w = 0; op->verb == 'S' && op->returned && w < (__u32)op->count; w++)
				events = mix(mix(events, op->ids[w]), op->values[w]);
		}
	return mix(events, memory);
}

/* A set of outcomes of one scenario; forgetful where it gets crowded. */
#define OUTCOMES (1u << 16)
struct outcomes {
	struct {
		__u64 outcome, scenario;
	} at[OUTCOMES];
};

static struct outcomes judged, reached;
static int collecting;			   /* the outcomes reached, whatever came before what */
static __u64 outcomes_count, outcomes_sum; /* the same for two searches that reach the same */

/* Whether it is in the set; if not it will be. */
static int is_known(struct outcomes *set, __u64 which)
{
	__u32 i, at = (__u32)(which >> 48) % OUTCOMES;

	for (i = 0; i < OUTCOMES / 2; i++, at = (at + 1) % OUTCOMES) {
		if (set->at[at].scenario != scenarios) {
			set->at[at].scenario = scenarios;
			set->at[at].outcome = which;
			return 0;
		}
		if (set->at[at].outcome == which)
			return 1;
	}
	return 0;
}

/* An allocation that died may have happened: see what_it_has(). */
static void find_objects_of_the_dead(void)
{
	int i;

	for (i = 0; i < history_count; i++)
		if (history[i].verb == 'A' && history[i].rc == PENDING)
			history[i].id = actors[history[i].actor].died_with;
}

/* Survivors go on, the books are looked at, and the results must be explained. */
static const char *judge(void)
{
	const char *wrong = problem;

	if (wrong)
		return wrong;
	now = NULL;
	if (subject != NAMES && !tracing) {
		if (collecting) {
			__u64 which = outcome(0);

			if (!is_known(&reached, which)) {
				outcomes_count++;
				outcomes_sum += mix(which, scenarios);
			}
		}
		if (is_known(&judged, outcome(1)))
			return NULL;
	}
	if (subject == POOL && deaths)
		find_objects_of_the_dead();
	if (deaths || start_dead)
		perform_all("X", ACTORS + 2);
	if (deaths)
		perform_all(exploration ? exploration->survivor : survivor_program[subject], ACTORS);
	if (exploration)
		perform_all(exploration->closing, ACTORS + 1);
	if (subject == MAP || subject == LIST)
		perform_all("S", ACTORS + 1);
	if (subject == QUEUE)
		perform_all("q q q q q", ACTORS + 1);
	if (problem)
		return problem;
	if (!history_is_explained())
		return "no order of the operations explains the results";
	if (lent)
		ads_spare_give(&arena, ads_pool_of(ref), lender, lent);
	wrong = heap_problem();
	if (!wrong)
		wrong = books_problem(deaths);
	return !wrong && exploration && exploration->books ? exploration->books(deaths) : wrong;
}

static const char *run_schedule(void)
{
	int i;

	restore();
	forget_history();
	this_schedule++;
	preemptions = deaths = points = decided = 0;
	for (i = 0; i < actor_count; i++) {
		struct actor *actor = &actors[i];

		actor->writes = actor->finished = actor->dead = actor->inside = actor->waits_for = 0;
		actor->line = start_dead + i;
		line_is_dead[actor->line] = 0;
		actor->object = 0;
		actor->waits_at = 0;
		actor_prepare(actor);
	}
	now = NULL;
	run_other(NULL, decide(actor_count));
	if ((__u64)points > longest)
		longest = (__u64)points;
	return judge();
}

/* --- the search -------------------------------------------------------------------- */

static void show_history(void)
{
	int i, r;

	for (i = 0; i < history_count; i++) {
		const struct op *op = &history[i];

		say("  actor %d  %c%c  [%llu, %llu]  rc %d  id %llu  value %llu", op->actor, op->verb,
		    op->key ? op->key : ' ', op->invoked, op->returned, op->rc, op->id, op->value);
		for (r = 0; op->verb == 'S' && r < op->count; r++)
			say("  %llu:%llu", op->ids[r], op->values[r]);
		say("\n");
	}
}

static void report_failure(const char *wrong)
{
	static const char *const names[] = {"map", "list", "pool", "queue", "directory", ""};
	struct ads_check_report report;
	int i;

	say("FAILED: %s\n  %s from state '%s' (%s), capacity %u:", wrong,
	    exploration ? exploration->name : names[subject], state->name,
	    state->setup, state->capacity);
	for (i = 0; i < actor_count; i++)
		say("  [%s] on CPU %d", programs[i], actors[i].cpu);
	say("\n");
	for (i = 0; i < start_model.count; i++)
		say("  at the start: %llu:%llu\n", start_model.ids[i], start_model.values[i]);
	show_history();
	if (subject == MAP || subject == LIST || subject == POOL || (exploration && exploration->kind)) {
		run_check(&report, 0);
		say("  check: live %llu deleted %llu free %llu unused %llu carved %llu leaked %llu errors %llu at %llu,"
		    " length %u\n",
		    report.live, report.deleted, report.free, report.unused, report.carved, report.leaked,
		    report.errors, report.error_at, ads_collection_len(&arena, ref));
	}
	say("  the schedule:\n");
	tracing = 1;
	run_schedule();
	fflush(stdout);
	_exit(1);
}

/* All schedules with the decisions that may be taken now. */
static __u64 search(int preemption_bound, int death_bound, int anywhere)
{
	__u64 count = 0;
	const char *wrong;

	bound = preemption_bound;
	deaths_allowed = death_bound;
	die_anywhere = anywhere;
	known = 0;
	do {
		wrong = run_schedule();
		if (wrong)
			report_failure(wrong);
		count++;
		deaths_seen += (__u64)deaths;
	} while (next_schedule());
	return count;
}

struct limits {
	int preemptions, deaths, death_preemptions;
};

static void explore(const struct limits *limits)
{
	__u64 count, deaths_before;
	int i;

	scenarios++;
	memset(contested, 0, sizeof(contested));
	memset(learnt, 0, sizeof(learnt));
	single_steps = actor_count == 2;
	for (i = 0; i < actor_count; i++) {
		snprintf(actors[i].program, sizeof(actors[i].program), "%s", programs[i]);
		actors[i].cpu = cpus[i];
		actors[i].by_user = !(bpf_actors >> i & 1);
		single_steps = single_steps && !*next_word(programs[i]);
	}
	search(0, 0, 0); /* one after the other: which words the actors touch at least */
	do {
		memcpy(contested, learnt, sizeof(contested));
		learnt_new = 0;
		count = search(limits->preemptions, 0, 0);
	} while (learnt_new);
	schedules += count;
	search(0, limits->deaths, 1);
	deaths_before = deaths_seen;
	do {
		memcpy(contested, learnt, sizeof(contested));
		learnt_new = 0;
		deaths_seen = deaths_before;
		if (limits->death_preemptions)
			search(limits->death_preemptions, limits->deaths, 0);
	} while (learnt_new);
	restore();
	if (memcmp(arena.base, image, ARENA_BYTES))
		give_up("a write without a point", 0);
}

/* --- scenarios --------------------------------------------------------------------- */

static const int same_cpu[] = {0, 0, 0}, other_cpus[] = {0, 1, 2};

/* A structure is made with 16 spare entries: then a capacity of 4 has used up its chunk, 8
 * has one entry left in it, 16 has two. A map of 16 begins with 8 shortcuts and may have 32,
 * and inserting c makes it grow; one of up to 4 never does. */
static const struct state map_states[] = {
	{"one below full", "Ia", 2, 0},
	{"full", "Ia Ic", 2, 0},
	{"full, a spare entry leaked", "Ia Ic Ra/5", 2, 0},
	{"full, one replaced but linked", "Ia Ic Ra/11", 2, 0},
	{"empty", "", 16, 0},
	{"one entry", "Ia", 16, 0},
	{"a neighbour", "Ic", 16, 0},
	{"neighbours", "Ia Ic", 16, 0},
	{"equal hashes", "Ia Ib", 16, 0},
	{"all of them", "Ia Ib Ic Id", 16, 0},
	{"free entries", "Ia Ib Ic Id Db Dd", 16, 0},
	{"one entry deleted but linked", "Ia Ic Da/2", 16, 0},
	{"two entries deleted but linked", "Ia Ib Ic Da/2 Ib Db/2", 16, 0},
	{"a leaked entry", "Ia Ib/4", 16, 0},
	{"neighbours in one bucket", "Ia Ic", 4, 0},
	{"three in one bucket", "Ia Ib Ic", 4, 0},
	{"deleted but linked, in one bucket", "Ia Ic Da/2", 4, 0},
	{"block claimed", "Ia/2", 4, 0},
	{"block claimed and counted", "Ia/3", 4, 0},
	{"block claimed, cursor behind", "Ia/4", 4, 0},
	{"the last block claimed and counted", "Ia Ib Ic Id/3", 4, 0},
	{"a chunk with one entry left", "", 8, 0},
	{"a chunk used up", "Ia", 4, 0},
	{"no memory, one entry left", "M0", 8, 1},
	{"no memory", "Ia M0", 8, 1},
	{"memory for one entry", "Ia M2", 8, 2},
	{"free entries elsewhere", "@5 Ia Ib Ic Db Dc @0", 3, 0},
	{"grown, no shortcut linked", "Ia Ic W", 16, 0},
	{"grown, empty", "W", 16, 0},
	{"grown, linked", "Ia Ic W Gc Ga", 16, 0},
	{"grown, one of two linked", "Ia Ib W Gc", 16, 0},
	{"grown twice", "Ia Ic W W", 16, 0},
	{"grown twice, first linked", "Ia Ic W Gc W", 16, 0},
	{"grown, shortcut claimed", "Ia Ic W Gc/2", 16, 0},
	{"grown, shortcut aimed", "Ia Ic W Gc/3", 16, 0},
	{"grown, shortcut linked, not released", "Ia Ic W Gc/4", 16, 0},
	{"grown around a deleted entry", "Ia Ic Da/2 W", 16, 0},
	{"table claimed", "Ia Ic W/2", 16, 0},
	{"table written", "Ia Ic W/3", 16, 0},
	{"table published, cursor behind", "Ia Ic W/4", 16, 0},
	{"no memory to grow", "Ia M0", 18, 2},
};

static const struct state list_states[] = {
	{"empty", "", 16, 0},
	{"one entry", "Ia", 16, 0},
	{"neighbours", "Ia Ib Ic", 16, 0},
	{"free entries", "Ia Ib Ic Db", 16, 0},
	{"first deleted but linked", "Ia Ib Da/2", 16, 0},
	{"lowest order taken", "Iz", 16, 0},
	{"one below full", "Ia", 2, 0},
	{"full", "Ia Ib", 2, 0},
	{"no memory", "Ia Ib M0", 8, 2},
	{"one replaced but linked", "Ia Ib Ra/9", 16, 0},
};

static const struct state pool_states[] = {
	{"empty", "", 16, 0},
	{"objects", "A A A", 16, 0},
	{"free objects", "A A A Fb Fc", 16, 0},
	{"a chunk used up", "A A", 8, 0},
	{"block claimed", "A/2", 16, 0},
	{"block claimed and counted", "A/3", 16, 0},
	{"block claimed, cursor behind", "A/4", 16, 0},
	{"the last block claimed and counted", "A A/3", 2, 0},
	{"one below full", "A", 2, 0},
	{"full", "A A", 2, 0},
	{"no memory", "A A M0", 8, 2},
	{"memory for one object", "A A M2", 8, 3},
};

/* A thread has died with an entry in hand, at each step of taking or freeing it. */
static const struct state map_hands[] = {
	{"about to take a free entry", "Ia Ib Ic Db Id/1", 16, 0},
	{"has spoken for a free entry", "Ia Ib Ic Db Id/2", 16, 0},
	{"has a free entry", "Ia Ib Ic Db Id/4", 16, 0},
	{"is filling an entry", "Ia Ib Ic Db Id/5", 16, 0},
	{"about to delete", "Ia Ib Ic Db Da/1", 16, 0},
	{"has deleted", "Ia Ib Ic Db Da/2", 16, 0},
	{"has unlinked", "Ia Ib Ic Db Da/3", 16, 0},
	{"about to give back", "Ia Ib Ic Db Da/5", 16, 0},
	{"is filling one to replace with", "Ia Ib Ic Db Rc/5", 16, 0},
	{"about to keep what it has replaced", "Ia Ib Ic Db Kc/12", 16, 0},
};

static const struct state pool_hands[] = {
	{"about to take a free object", "A A Fb A/1", 16, 0},
	{"has spoken for a free object", "A A Fb A/2", 16, 0},
	{"has a free object", "A A Fb A/3", 16, 0},
	{"about to take a fresh object", "A A A/1", 16, 0},
	{"has spoken for a fresh object", "A A A/2", 16, 0},
};

static const struct state queue_states[] = {
	{"empty", "", 2, 0},
	{"one record", "Q", 2, 0},
	{"full", "Q Q", 2, 0},
	{"wrapped", "Q Q q Q q", 2, 0},
	{"full, seen as full", "Q Q Q", 2, 0},
	{"positions about to wrap", "%1", 2, 0},
	{"full across the end of positions", "%1 Q Q", 2, 0},
};

static const struct state names_states[] = {
	{"no directory", "", 1024, 0},
	{"a directory", "Nc", 1024, 0},
	{"a name", "Na", 1024, 0},
};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int long_run;
static struct limits two_actors = {3, 1, 1}, three_actors = {2, 1, 0}, deadly = {3, 1, 2};

/* What only user space does: reap, update in a row, name. */
static int may_be_bpf(const char *program)
{
	for (; *program; program = next_word(program))
		if ((*program == 'X' && (!program[1] || program[1] == ' ')) || (subject == MAP && strchr("Kk", *program)))
			return 0;
	return subject != NAMES;
}

/* `bpf`: bit i says that actor i stands for a BPF program. */
static void run_programs(const struct state *from, const char *first, const char *second, const char *third,
			 const int *where, const struct limits *limits, int bpf)
{
	programs[0] = first;
	programs[1] = second;
	programs[2] = third;
	cpus = where;
	set_up(from);
	actor_count = third ? 3 : 2;
	bpf_actors = bpf;
	explore(limits);
}

/*
 * On one CPU one actor stands for a BPF program: of two first the second, then, where it is another scenario, the
 * first; of three the second. Elsewhere all are user space, and may die.
 */
static void run_scenario(const struct state *from, const char *first, const char *second, const char *third,
			 const int *where, const struct limits *limits)
{
	int bpf = may_be_bpf(second) ? 2 : 0;

	run_programs(from, first, second, third, where, limits, where == same_cpu ? bpf : 0);
	if (where == same_cpu && !third && may_be_bpf(first) && strcmp(first, second)) {
		struct limits swapped = *limits;

		/* Maps have the most scenarios by far: only a long run has all preemptions in both roles. */
		if (subject == MAP && !long_run)
			swapped.preemptions--;
		run_programs(from, first, second, third, where, &swapped, 1);
	}
	if (long_run && bpf)
		run_programs(from, first, second, third, where, limits, where == same_cpu ? 0 : bpf);
}

/* Two BPF programs, one of which may nest in the other; neither can die. */
static void run_nested(const struct state *from, const char *first, const char *second)
{
	struct limits limits = {two_actors.preemptions, 0, 0};

	run_programs(from, first, second, NULL, same_cpu, &limits, 3);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others use the CPUs too */
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static __u64 schedules_told, deaths_told, scenarios_told;
static double told_at;

static void tell(const char *what)
{
	double t = seconds();

	say("%-14s %6llu scenarios %9llu schedules %9llu deaths %6.1f s, up to %llu points\n", what,
	    scenarios - scenarios_told, schedules - schedules_told, deaths_seen - deaths_told, t - told_at, longest);
	if (collecting)
		say("outcomes: %llu, %016llx\n", outcomes_count, outcomes_sum);
	fflush(stdout);
	scenarios_told = scenarios;
	schedules_told = schedules;
	deaths_told = deaths_seen;
	told_at = t;
	longest = 0;
}

/* Whether the shards can matter: where entries are taken from chunks or are scarce. */
static int shards_matter(const struct state *from)
{
	return subject != NAMES &&
	       (from->capacity < 16 || !*from->setup || strchr(from->setup, '@') || strchr(from->setup, '/'));
}

/* Every pair of operations, the first on key a (or without key), from every state. */
static void explore_pairs(const struct state *states, int count, const char *const *firsts,
			  const char *const *others)
{
	const char *const *f, *const *s;
	int i;

	for (i = 0; i < count; i++)
		for (f = firsts; *f; f++)
			for (s = others; *s; s++) {
				/* The same pair the other way round is the same scenario, with both roles in it. */
				if (strcmp(*f, *s) > 0) {
					const char *const *x, *const *y;

					for (x = firsts; *x && strcmp(*x, *s); x++)
						;
					for (y = others; *y && strcmp(*y, *f); y++)
						;
					if (*x && *y)
						continue;
				}
				run_scenario(&states[i], *f, *s, NULL, same_cpu, &two_actors);
				if (long_run || shards_matter(&states[i]))
					run_scenario(&states[i], *f, *s, NULL, other_cpus, &two_actors);
			}
}

/* A reaper against one who may get what the dead had in hand. */
static void explore_reaping(const struct state *states, int count, const char *const *others)
{
	static const struct limits reaping = {3, 0, 0};
	const char *const *s;
	int i;

	for (i = 0; i < count; i++)
		for (s = others; *s; s++)
			run_scenario(&states[i], *s, "X", NULL, same_cpu, &reaping);
}

static void explore_map_reaping(void)
{
	static const char *const others[] = {"Ia", "Da", "Ra", "Ib", "Id", "Rc", "Dc", "Ia Da", "Da Ia", "Id Dd", "Ka Kc k",
					     "S", "Sw", NULL};

	explore_reaping(map_hands, COUNT(map_hands), others);
}

static void explore_pool_reaping(void)
{
	static const char *const others[] = {"A", "A f", "A A", "Fa", "Fa A", NULL};

	explore_reaping(pool_hands, COUNT(pool_hands), others);
}

static const struct state *find_state(const struct state *states, int count, const char *name)
{
	int i;

	for (i = 0; i < count; i++)
		if (!strcmp(states[i].name, name))
			return &states[i];
	give_up(name, 0);
	return NULL;
}

static const struct state *map_state(const char *name)
{
	return find_state(map_states, COUNT(map_states), name);
}

/* Every pair of what changes entries, as BPF programs, from some of the states. `names` ends with NULL, as do
 * `firsts` and `others`. */
static void explore_nested(const struct state *states, int count, const char *const *names, const char *const *firsts,
			   const char *const *others)
{
	const char *const *f, *const *o;

	for (; *names; names++)
		for (f = firsts; *f; f++)
			for (o = others; *o; o++)
				run_nested(find_state(states, count, *names), *f, *o);
}

static void explore_map_nested(void)
{
	static const char *const states[] = {"full", "full, a spare entry leaked", "full, one replaced but linked",
					     "free entries", "equal hashes", "one entry deleted but linked",
					     "two entries deleted but linked", "deleted but linked, in one bucket", NULL};
	static const char *const firsts[] = {"Ra", "Ua", "Da", NULL};
	static const char *const others[] = {"Ra", "Ua", "Da", "Ia", "Rc", "Dc", "Ib", "Db", "Ra Ra", "Da Ia", NULL};

	explore_nested(map_states, COUNT(map_states), states, firsts, others);
}

static void explore_map_pairs(void)
{
	static const char *const firsts[] = {"Ga", "Ia", "Ra", "Ua", "Da", "S", "Sw", NULL};
	static const char *const others[] = {"Ga", "Ia", "Ra", "Ua", "Da", "Ib", "Rb", "Ub", "Db",
					     "Gc", "Ic", "Rc", "Uc", "Dc", "Id", "Dd", "W", NULL};

	explore_pairs(map_states, COUNT(map_states), firsts, others);
}

/* One operation against several: entries come back while it looks at them. */
static void explore_map_programs(void)
{
	static const char *const programs_of_two[][2] = {
		{"Ga", "Da Ia"}, {"Ga", "Da Ib"}, {"Ga", "Ra Ra"}, {"Ga", "Da Ic Dc Ia"}, {"Gc", "Da Id Ia"},
		{"Gc", "Da Id Dc Ic"}, {"Gb", "Da Ia Db"}, {"Gb", "Da Id"}, {"Ia", "Da Ia Da"}, {"Ib", "Da Ia"},
		{"Ib", "Da Ic"}, {"Ra", "Da Ia"}, {"Ra", "Ra Ra"}, {"Ra", "Da Id Ia"}, {"Ua", "Da Ib"},
		{"Ua", "Da Ia Da"}, {"Da", "Da Ia"}, {"Da", "Ra Ra"}, {"Da", "Da Id Ia"}, {"Dc", "Da Ia Ic"},
		{"Dc", "Da Id Ia"}, {"Dc", "Da Db"}, {"Ic", "Da Ib Db"}, {"S", "Da Ia"}, {"S", "Da Ib"},
		{"S", "Ra Ra"}, {"Sw", "Da Ia"}, {"Sw", "Da Ib"}, {"Sw", "Ra Ra"}, {"Sw", "Da Id"}, {"Sw", "W Gc Dc"},
		{"Sw", "Gc Ia"}, {"Sw", "Dc Ic Da"}, {"S", "Da Id"}, {"S", "Dc Ic Da"}, {"S", "Dd Id"}, {"Ia Da", "Ia Da"},
		{"Ua Da", "Ua Db"}, {"Ia Dc", "Ic Da"}, {"Ib Db", "Dc Ic"}, {"W", "Ia Dc"}, {"W W", "Dc Ic"},
		{"Gc", "W Ic"}, {"Gc", "W Dc"}, {"Ic", "W Gc"}, {"Dc", "W Gc"}, {"Ga", "W Gc Da"}, {"S", "W Gc Dc"},
		{"S", "Gc Ia"}, {"Ga Gc", "Gc Ga"}, {"Da Gc", "Dc Ga"}, {"Ra", "Rc Ib"}, {"Ra", "Ra Ib"},
	};
	static const struct state lent = {"full, another program has the CPU's spare entry", "Ia Ic !", 2, 0};
	static const char *const replacing[][2] = {
		{"Ra", "Ra Ra"}, {"Ra", "Rc Ib"}, {"Ra", "Ra Ib"}, {"Ra", "Rc Rc"}, {"Ra Ib", "Rc"}, {"Ra", "Rc"},
		{"Da Ib", "Rc Rc"}, {"Da", "Rc Id"},
	};
	static const char *const states[] = {
		"full", "empty", "neighbours in one bucket", "equal hashes", "all of them", "free entries",
		"one entry deleted but linked", "a chunk with one entry left", "grown, no shortcut linked",
	};
	int i, j;

	for (i = 0; i < COUNT(replacing); i++)
		run_scenario(&lent, replacing[i][0], replacing[i][1], NULL, same_cpu, &two_actors);
	for (i = 0; i < COUNT(programs_of_two); i++)
		for (j = 0; j < COUNT(states); j++)
			run_scenario(map_state(states[j]), programs_of_two[i][0], programs_of_two[i][1], NULL, same_cpu,
				     &two_actors);
}

static void explore_map_three(void)
{
	static const char *const triples[][3] = {
		{"Ia", "Ia", "Da"}, {"Ia", "Da", "Da"}, {"Ia", "Ib", "Ic"}, {"Ia", "Ra", "Da"}, {"Ua", "Ua", "Da"},
		{"Ua", "Ra", "Ga"}, {"Da", "Db", "Dc"}, {"Da", "Dc", "Gc"}, {"Da", "Ia", "Ga"}, {"Da", "Ib", "Gb"},
		{"Da", "Dc", "S"}, {"Da", "Dc", "Sw"}, {"Ra", "Ic", "Sw"}, {"Ra", "Dc", "S"}, {"Ra", "Ra", "Da"}, {"Ia", "Dc", "Ib"}, {"Ua", "Db", "Uc"},
		{"Da", "Ic", "Id"}, {"Gc", "Gc", "Dc"}, {"Gc", "Ga", "Ic"}, {"W", "Ia", "Dc"}, {"W", "W", "Gc"},
	};
	static const char *const states[] = {
		"full", "empty", "neighbours in one bucket", "all of them", "one entry deleted but linked",
		"a chunk with one entry left", "grown, no shortcut linked",
	};
	int i, j;

	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < COUNT(states); j++)
			run_scenario(map_state(states[j]), triples[i][0], triples[i][1], triples[i][2], same_cpu,
				     &three_actors);
}

/* Updates in a row, each of which takes what the one before has replaced, against all that may meet it. */
static void explore_map_rows(void)
{
	static const char *const rows[] = {"Ka Kc k", "Ka Kb k", NULL};
	static const char *const others[] = {"Ga", "Ra Ra", "Da Ia", "Dc", "Sw", "Ka Kc k", NULL};
	static const char *const states[] = {"full", "equal hashes", "free entries", "one entry deleted but linked"};
	static const struct limits limits = {2, 1, 0};
	int i, j, k;

	for (i = 0; rows[i]; i++)
		for (j = 0; others[j]; j++)
			for (k = 0; k < COUNT(states); k++) {
				if (others[j][0] != 'K') /* BPF programs have no rows */
					run_scenario(map_state(states[k]), rows[i], others[j], NULL, same_cpu, &limits);
				run_scenario(map_state(states[k]), rows[i], others[j], NULL, other_cpus, &limits);
			}
}

/* The length is exact if it is read twice without a change between; it is read four times, so
 * it takes three preemptions to make it an estimate. */
static void explore_map_length(void)
{
	static const struct limits exact = {2, 1, 1};
	int i;

	for (i = 0; i < COUNT(map_states); i++) {
		run_scenario(&map_states[i], "L", "Ia Db", NULL, other_cpus, &exact);
		run_scenario(&map_states[i], "L", "Ib Dc", NULL, same_cpu, &exact);
	}
}

static void explore_list_pairs(void)
{
	static const char *const firsts[] = {"Ga", "Ia", "Ra", "Ua", "Da", "P", "T", "H", "S", NULL};
	static const char *const others[] = {"Ga", "Ia", "Ra", "Ua", "Da", "P", "T", "Iy", "Ib", "Rb", "Db", NULL};

	explore_pairs(list_states, COUNT(list_states), firsts, others);
}

static void explore_list_nested(void)
{
	static const char *const states[] = {"neighbours", "full", "free entries", "first deleted but linked",
					     "one replaced but linked", NULL};
	static const char *const firsts[] = {"Ra", "Ua", "Da", "P", "T", NULL};
	static const char *const others[] = {"Ra", "Ua", "Da", "P", "T", "Iy", "Rb", "Db", "Ra Ra", "Da Ia", NULL};

	explore_nested(list_states, COUNT(list_states), states, firsts, others);
}

static void explore_list_programs(void)
{
	static const char *const programs_of_two[][2] = {
		{"P", "P P"}, {"P", "Da Ia"}, {"P", "Da Db"}, {"P", "Iy Da"}, {"P", "P Dy"}, {"P", "Iy Dy"},
		{"S", "P Da"}, {"Gb", "Da P"}, {"Gb", "Da Ic"}, {"P P", "P P"}, {"T", "P P"}, {"T", "Da Ia"},
		{"T", "Iy Dy"}, {"T T", "P Da"}, {"T P", "T P"}, {"H", "Da Ia"}, {"H", "T P"}, {"H", "Ra Da"},
	};
	int i, j;

	for (i = 0; i < COUNT(programs_of_two); i++)
		for (j = 0; j < COUNT(list_states); j++)
			run_scenario(&list_states[j], programs_of_two[i][0], programs_of_two[i][1], NULL, same_cpu,
				     &deadly);
}

static void explore_list_three(void)
{
	static const char *const triples[][3] = {
		{"P", "P", "P"}, {"P", "P", "Da"}, {"P", "Da", "S"}, {"P", "Iy", "Da"}, {"Ra", "Da", "P"},
		{"T", "T", "P"}, {"T", "Da", "Iy"}, {"H", "T", "P"},
	};
	int i, j;

	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < 5; j++)
			run_scenario(&list_states[j], triples[i][0], triples[i][1], triples[i][2], same_cpu, &three_actors);
}

static void explore_pool_pairs(void)
{
	static const char *const all[] = {"A", "A f", "A A", "A A f", "A f A", "B", "B B", "A B", NULL};

	explore_pairs(pool_states, COUNT(pool_states), all, all);
}

static void explore_pool_frees(void)
{
	static const char *const all[] = {"A", "A f", "A A", "A f A", NULL};
	static const char *const frees[] = {"Fa", "Fb", "Fa A", "Fa Fb", "Fb A f", "A A Fc", NULL};
	int i;

	for (i = 1; i < 4; i++) {
		explore_pairs(&pool_states[i], 1, frees, frees);
		explore_pairs(&pool_states[i], 1, frees, all);
	}
}

static void explore_pool_three(void)
{
	static const char *const triples[][3] = {{"A", "A", "A"}, {"A", "A f", "B"}, {"A", "B", "B"}};
	int i, j;

	for (i = 0; i < COUNT(triples); i++)
		for (j = 0; j < COUNT(pool_states); j++)
			run_scenario(&pool_states[j], triples[i][0], triples[i][1], triples[i][2], other_cpus, &three_actors);
}

static void explore_queue(void)
{
	static const char *const producers[] = {"Q", "Q Q", "Q Q Q", NULL};
	static const char *const consumers[] = {"q", "q q", "q q q", NULL};

	static const char *const readers[] = {"S", NULL};
	int i;

	explore_pairs(queue_states, COUNT(queue_states), producers, consumers);
	explore_pairs(queue_states, COUNT(queue_states), producers, readers);
	explore_pairs(queue_states, COUNT(queue_states), consumers, readers);
	for (i = 0; i < COUNT(queue_states); i++)
		run_scenario(&queue_states[i], "Q Q", "q q", "S", other_cpus, &three_actors);
}

static void explore_names(void)
{
	static const char *const all[] = {"Na", "Nb", "na", "Na nb", "na na", NULL};

	explore_pairs(names_states, COUNT(names_states), all, all);
}

static const struct {
	const char *name;
	enum subject subject;
	void (*explore)(void);
} groups[] = {
	{"map-pairs", MAP, explore_map_pairs},	     {"map-programs", MAP, explore_map_programs},
	{"map-rows", MAP, explore_map_rows},
	{"map-three", MAP, explore_map_three},	     {"map-length", MAP, explore_map_length},
	{"list-pairs", LIST, explore_list_pairs},    {"list-programs", LIST, explore_list_programs},
	{"list-three", LIST, explore_list_three},    {"pool-pairs", POOL, explore_pool_pairs},
	{"pool-frees", POOL, explore_pool_frees},    {"pool-three", POOL, explore_pool_three},
	{"queue-pairs", QUEUE, explore_queue},	     {"names-pairs", NAMES, explore_names},
	{"map-reaping", MAP, explore_map_reaping},   {"pool-reaping", POOL, explore_pool_reaping},
	{"map-nested", MAP, explore_map_nested},     {"list-nested", LIST, explore_list_nested},
};

/* interleave_NAME.h goes here, and into the table. */
#include "interleave_array.h"
#include "interleave_grace.h"
#include "interleave_intrusive.h"
#include "interleave_mpmc.h"
#include "interleave_orderedmap.h"
#include "interleave_bytes.h"
#include "interleave_ring.h"
#include "interleave_rings.h"

static const struct exploration *const explorations[] = {
	&array_exploration,
	&grace_exploration,
	&reclaimers_exploration,
	&intrusive_exploration,
	&mpmc_exploration,
	&orderedmap_exploration,
	&bytes_exploration,
	&hints_exploration,
	&ring_plain,
	&ring_overwriting,
	&rings_exploration,
};

/* --- entry ------------------------------------------------------------------------- */

static void create_arena(void)
{
	int i, rc = ads_arena_create(&arena, ARENA_BYTES, 0, memfd_create("interleave", 0), ARENA_BYTES);

	if (rc)
		give_up("cannot create the arena", rc);
	memcpy(blank, arena.base, ARENA_BYTES);
	for (i = 0; i < ACTORS; i++) {
		void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (stack == MAP_FAILED)
			give_up("cannot allocate a stack", errno);
		actors[i].stack = (char *)stack;
	}
	ads_point_hook = point;
}

/*
 * Explore the groups named, or whose names begin so; 0 if all is well, 1 after a wrong
 * schedule, which is printed.
 *	--long		one preemption more
 *	--short		one less, and no deaths
 *	--every-point	preempt at every point, not only where it can matter
 *	--outcomes	print what the schedules led to, to compare two searches
 */
int interleave(int argc, const char *const *argv);
__attribute__((visibility("default"))) int interleave(int argc, const char *const *argv)
{
	double started = told_at = seconds();
	int i, g;

	create_arena();
	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--long")) {
			long_run = 1;
			two_actors = deadly = (struct limits){4, 1, 2};
			three_actors = (struct limits){3, 1, 1};
		} else if (!strcmp(argv[i], "--short")) {
			two_actors = deadly = (struct limits){2, 0, 0};
			three_actors = (struct limits){1, 0, 0};
		}
		every_point |= !strcmp(argv[i], "--every-point");
		collecting |= !strcmp(argv[i], "--outcomes");
	}
	for (g = 0; g < COUNT(groups); g++)
		for (i = 0; i < argc; i++)
			if (!strncmp(argv[i], groups[g].name, strlen(argv[i]))) {
				subject = groups[g].subject;
				groups[g].explore();
				tell(groups[g].name);
				break;
			}
	for (g = 0; g < COUNT(explorations); g++)
		for (i = 0; i < argc; i++)
			if (!strncmp(argv[i], explorations[g]->name, strlen(argv[i]))) {
				subject = OTHERS;
				exploration = explorations[g];
				exploration->explore();
				tell(exploration->name);
				exploration = NULL;
				break;
			}
	say("total: %llu scenarios, %llu schedules, %llu deaths, %.1f s\n", scenarios, schedules, deaths_seen,
	    seconds() - started);
	fflush(stdout);
	return 0;
}

#ifdef INTERLEAVE_MAIN
int main(int argc, char **argv)
{
	return interleave(argc - 1, (const char *const *)argv + 1);
}
#endif
