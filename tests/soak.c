/* SPDX-License-Identifier: MIT */
/*
 * soak.c - user processes that work on an arena until they are killed, or stopped.
 *
 *	soak PATH
 *
 * opens the arena that is pinned at PATH, in which soak.bpf.c has made its structures, and
 * does what each line on standard input asks, with one line of JSON as the answer:
 *
 *	kill COUNT SEATS MICROSECONDS OPERATIONS KEYS REAP
 *		Keep SEATS victims at work on a mask of operations and the first KEYS keys; kill
 *		a random one after up to so many microseconds, reap it, start another, until
 *		COUNT are dead and none is left. After every REAP deaths give back what they had in
 *		hand, unless that is 0.
 *	stop MICROSECONDS OPERATIONS KEYS
 *		Start one victim, stop it after up to so many microseconds.
 *	point OPERATION NUMBER KEYS
 *		Start one victim that does one operation and stops before its shared operation
 *		NUMBER, or ends. Only in the test build, with ADS_POINTS.
 *	go	Let the one that was stopped go on.
 *	end	Kill it where it is.
 *	expect PAIR SENT EXPECTED
 *		Both rings of a pair have been emptied by somebody else: go on with these numbers.
 *	wide	The map that is made anew is another one from now on.
 *	reap	Give back what the dead had in hand. And, nobody being at work, the records of the
 *		intrusive list that were the dead's own.
 *	report	What all victims have done so far.
 *
 * A victim writes what it is doing into a seat: memory that it shares with this process, and
 * not the arena's. So it is known where it died, and the seat's next victim goes on from there.
 */
#include "programs/soak.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#define SEATS 8

struct seat {
	__u64 begun;  /* it has the arena and is at work */
	__u64 doing;  /* 1 + the operation, 0 between two of them */
	__u64 object; /* of the pool, in this victim's hands */
	__u64 link;   /* its link word since it is */
	__u64 sent;   /* to the rings of many */
	__u64 codes[SOAK_KINDS][SOAK_CODES];
	pid_t pid; /* the driver's own */
};

/* In memory that survives the victims. */
static struct shared {
	struct soak_ends ends[SOAK_PAIRS];
	struct seat seats[SEATS];
} *shared;

static struct seat *seat; /* the victim's own */

static struct {
	__u64 kills;
	__u64 inside[SOAK_KINDS]; /* deaths within each operation */
	__u64 unexpected;	  /* victims that ended in another way */
	__u64 status;		  /* how the first of them did */
	__u64 objects;		  /* of the pool, given back for the dead */
	__u64 items;		  /* of the intrusive list, in no list and nobody's: the same */
	__u64 reaped;		  /* entries that the dead had in hand, given back */
	__u64 lines;		  /* of the registry of owners, freed */
	__u64 nanoseconds;
} totals;

static const char *const names[] = {
#define SOAK_NAME(name) #name,
	SOAK_OPERATIONS(SOAK_NAME)
};

static __u64 random_state;

static __u64 next_random(void)
{
	random_state = soak_random(random_state);
	return random_state >> 20;
}

static __u64 now(void)
{
	return bpf_ktime_get_ns();
}

/* --- victims ---------------------------------------------------------------------------- */

static __u64 *link_of_object(__u64 object, struct ads_ref of)
{
	return ads_link_of(&arena, (__u32)object - ads_entry_value_offset(of));
}

static void soak_hold(__u32 object)
{
	if (object)
		seat->link = ads_load(link_of_object(object, pool_ref()));
	__atomic_store_n(&seat->object, object, __ATOMIC_RELEASE);
}

#ifdef ADS_POINTS
static __u64 points, stop_at;

static void point(int kind, const volatile void *word)
{
	(void)kind;
	(void)word;
	if (++points == stop_at)
		kill(getpid(), SIGSTOP);
}
#endif

static __u32 perform(__u32 operation, __u64 random, __u64 keys)
{
	__u32 code;

	__atomic_store_n(&seat->doing, operation + 1, __ATOMIC_RELEASE);
	code = (__u32)soak_operate(operation, random, keys);
	__atomic_store_n(&seat->codes[operation][code], seat->codes[operation][code] + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&seat->doing, 0, __ATOMIC_RELEASE);
	return code;
}

/* Start a child that has the arena; 0 in the child. */
static pid_t start_victim(struct seat *its)
{
	pid_t pid;

	random_state = soak_random(random_state);
	pid = fork();
	if (pid) {
		its->pid = pid;
		return pid;
	}
	/* None outlives the test, one that has stopped neither. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || ads_arena_remap(&arena))
		_exit(3);
	seat = its;
	soak_sent_to_many = &its->sent;
	soak_producer = 1 + (__u64)(its - shared->seats);
	random_state ^= (__u64)getpid() << 32;
	return 0;
}

static void work(__u64 operations, __u64 keys)
{
	__atomic_store_n(&seat->begun, 1, __ATOMIC_RELEASE);
	for (;;) {
		__u32 operation;

		random_state = soak_random(random_state);
		operation = soak_choose(random_state, operations);
		if (operation != SOAK_KINDS)
			perform(operation, random_state, keys);
	}
}

/* What the owner of an object does for one who died with it: its link tells whether the object
 * was given back in time. Nobody else touches that word while the object is in use. */
static void inherit(struct seat *its)
{
	__u64 object = its->object;

	its->object = 0;
	if (object && ads_load(link_of_object(object, pool_ref())) == its->link && !ads_pool_free(&arena, pool_ref(), (__u32)object))
		totals.objects++;
}

/* A victim is gone: see where it was, and make its seat free for the next. */
static void bury(struct seat *its, int status)
{
	__u64 doing = its->doing;

	totals.kills++;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		if (!totals.unexpected++)
			totals.status = (__u64)status;
	}
	if (doing)
		totals.inside[doing - 1]++;
	if (doing == SOAK_queue_pop + 1)
		shared->ends[SOAK_QUEUES].doubt++;
	if (doing == SOAK_ring_pop + 1)
		shared->ends[SOAK_RINGS].doubt++;
	its->begun = 0;
	its->doing = 0;
	its->pid = 0;
	inherit(its);
}

/* Put a process before all that compute, if we may: the machine is busy with victims, and who
 * kills them, or has to die, is not to wait for its turn behind them. */
static void hurry(pid_t pid)
{
	struct sched_param first = {.sched_priority = 1};

	sched_setscheduler(pid, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
}

static int kill_victim(struct seat *its)
{
	int status;

	if (kill(its->pid, SIGKILL))
		return -1;
	hurry(its->pid);
	if (waitpid(its->pid, &status, 0) != its->pid)
		return -1;
	bury(its, status);
	return 0;
}

/* Give back what the dead had in hand. Nobody stops for that. */
static int reap(void)
{
	__u32 lines;
	__s64 given = ads_owner_reap(&arena, &lines);

	if (given < 0)
		return -1;
	totals.reaped += (__u64)given;
	totals.lines += lines;
	return 0;
}

/*
 * Records belong to who allocates or removes them, and so may die with a victim. Once nobody is at
 * work, one that is in use and in no list is such a record: its owner, the application, frees it.
 */
static int sweep(void)
{
	struct ads_pool_ref pool = ads_pool_of(items_ref());
	__u64 at, bytes;
	__u32 i;

	for (at = ADS_HEAP_OFFSET; ads_arena_reaches(&arena, at + 8); at += bytes) {
		__u64 word = ads_load_acquire(ads_at(&arena, __u64, at));

		bytes = ads_block_bytes(&arena, word);
		if (!bytes)
			break;
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != pool.offset)
			continue;
		for (i = 0; i < word >> 32; i++) {
			__u32 object = (__u32)at + 8 + i * pool.stride + ads_entry_value_offset(items_ref());
			__u64 link = ads_load(link_of_object(object, items_ref()));

			if (!link || link & ADS_LINK_MARK ||
			    !ads_node_is_out(ads_load(&ads_at(&arena, struct item, object)->node.link)))
				continue;
			if (ads_pool_free(&arena, items_ref(), object))
				return -1;
			totals.items++;
		}
	}
	return 0;
}

/* Pass a random time. It is what is random about the deaths, nothing waits for it to be enough. */
static void pass(__u64 most_microseconds)
{
	struct timespec time = {0, (long)(most_microseconds ? next_random() % (most_microseconds * 1000) : 0)};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, 0);
}

static int kill_many(__u64 count, __u64 seats, __u64 microseconds, __u64 operations, __u64 keys,
		     __u64 reap_every)
{
	__u64 start = now(), end = totals.kills + count, alive = 0, i;

	if (!seats || seats > SEATS)
		return -1;
	while (totals.kills < end) {
		for (i = 0; i < seats && totals.kills + alive < end; i++) {
			/* The first seat alone owns this side's ends of the queues. */
			__u64 own = i ? operations & ~SOAK_EXCLUSIVE : operations;

			if (shared->seats[i].pid || !own)
				continue;
			switch (start_victim(&shared->seats[i])) {
			case -1:
				return -1;
			case 0:
				work(own, keys);
			}
			alive++;
		}
		pass(microseconds);
		i = next_random() % seats;
		if (!shared->seats[i].pid)
			continue;
		/* Most have begun, however long that takes on a busy machine. A few have not. */
		if (!__atomic_load_n(&shared->seats[i].begun, __ATOMIC_ACQUIRE) && next_random() % 16)
			continue;
		if (kill_victim(&shared->seats[i]) || (reap_every && totals.kills % reap_every == 0 && reap()))
			return -1;
		alive--;
	}
	totals.nanoseconds += now() - start;
	return 0;
}

/* --- one that stops ------------------------------------------------------------------------ */

static struct seat *stopped;
static int single; /* it does one operation and ends */

static __u64 operations_of(const struct seat *its)
{
	__u64 sum = 0;
	__u32 operation, code;

	for (operation = 0; operation < SOAK_KINDS; operation++)
		for (code = 0; code < SOAK_CODES; code++)
			sum += __atomic_load_n(&its->codes[operation][code], __ATOMIC_RELAXED);
	return sum;
}

static int stop_victim(__u64 microseconds, __u64 operations, __u64 keys)
{
	struct seat *its = &shared->seats[0];
	__u64 before = operations_of(its);
	int status;

	if (!start_victim(its))
		work(operations, keys);
	while (operations_of(its) == before)
		sched_yield();
	pass(microseconds);
	if (its->pid < 0 || kill(its->pid, SIGSTOP) || waitpid(its->pid, &status, WUNTRACED) != its->pid ||
	    !WIFSTOPPED(status))
		return -1;
	stopped = its;
	single = 0;
	printf("{\"stopped\": \"%s\"}\n", its->doing ? names[its->doing - 1] : "");
	return 0;
}

static int stop_at_point(__u64 operation, __u64 number, __u64 keys)
{
#ifdef ADS_POINTS
	struct seat *its = &shared->seats[0];
	int status;

	if (operation >= SOAK_KINDS)
		return -1;
	if (!start_victim(its)) {
		stop_at = number;
		ads_point_hook = point;
		/* What others do seldom, it does. */
		_exit((int)perform((__u32)operation, random_state & ~(8191ull * SOAK_RARE), keys));
	}
	if (its->pid < 0 || waitpid(its->pid, &status, WUNTRACED) != its->pid)
		return -1;
	if (WIFSTOPPED(status)) {
		stopped = its;
		single = 1;
		printf("{\"stopped\": \"%s\"}\n", names[operation]);
		return 0;
	}
	its->pid = 0;
	if (!WIFEXITED(status))
		return -1;
	printf("{\"code\": %d}\n", WEXITSTATUS(status));
	return 0;
#else
	(void)operation;
	(void)number;
	(void)keys;
	return -1;
#endif
}

/* One that does a single operation ends with its code; another does at least one more, and dies. */
static int go_on(void)
{
	struct seat *its = stopped;
	__u64 before;
	int status;

	if (!its)
		return -1;
	stopped = 0;
	before = operations_of(its);
	if (kill(its->pid, SIGCONT))
		return -1;
	if (!single) {
		while (operations_of(its) == before)
			sched_yield();
		if (kill_victim(its))
			return -1;
		printf("{}\n");
		return 0;
	}
	if (waitpid(its->pid, &status, 0) != its->pid || !WIFEXITED(status))
		return -1;
	its->pid = 0;
	printf("{\"code\": %d}\n", WEXITSTATUS(status));
	return 0;
}

static int end(void)
{
	struct seat *its = stopped;

	stopped = 0;
	return its ? kill_victim(its) : -1;
}

/* --- the answers ----------------------------------------------------------------------------- */

static void report(void)
{
	__u32 operation, code, i;

	printf("{\"kills\": %llu, \"unexpected\": %llu, \"status\": %llu, \"objects\": %llu, "
	       "\"items\": %llu, \"reaped\": %llu, \"lines\": %llu, \"strays\": %llu, \"nanoseconds\": %llu, \"ends\": [",
	       totals.kills, totals.unexpected, totals.status, totals.objects, totals.items, totals.reaped, totals.lines,
	       ads_load(&ads_root_of(&arena)->strays), totals.nanoseconds);
	for (i = 0; i < SOAK_PAIRS; i++)
		printf("%s[%llu, %llu, %llu]", i ? ", " : "", shared->ends[i].sent, shared->ends[i].expected,
		       shared->ends[i].doubt);
	printf("], \"operations\": {");
	for (operation = 0; operation < SOAK_KINDS; operation++) {
		printf("%s\"%s\": {\"deaths\": %llu, \"codes\": [", operation ? ", " : "", names[operation],
		       totals.inside[operation]);
		for (code = 0; code < SOAK_CODES; code++) {
			__u64 sum = 0;

			for (i = 0; i < SEATS; i++)
				sum += shared->seats[i].codes[operation][code];
			printf("%s%llu", code ? ", " : "", sum);
		}
		printf("]}");
	}
	printf("}}\n");
}

static int open_wide(void)
{
	struct ads_ref ref = soak_wide_ref();
	int rc = ads_structure_open(&arena, "wide", ADS_KIND_HASHMAP, &ref);

	soak_wide = rc ? 0 : ref.offset;
	return rc;
}

/* Find the structures that the program has made, by their names. */
static int open_all(const char *path)
{
	int rc = ads_arena_open_path(&arena, path, 0);
	struct ads_rings rings;
	__u32 i;

#define OPEN(name, kind)                                                       \
	if (!rc) {                                                             \
		struct ads_ref ref = name##_ref();                             \
		rc = ads_structure_open(&arena, #name, kind, &ref);            \
		name.handle = ref.offset;                                      \
	}
	SOAK_STRUCTURES(OPEN)
#undef OPEN
	if (!rc)
		rc = ads_rings_open(&arena, "many", &rings);
	for (i = 0; !rc && i < ADS_RINGS_MOST; i++)
		many.each[i] = rings.each[i];
	return rc;
}

int main(int argc, char **argv)
{
	char line[256], verb[16];
	__u64 number[6];

	if (argc != 2 || open_all(argv[1]))
		return 2;
	shared = (struct shared *)mmap(0, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	soak_ends = shared->ends;
	random_state = now();
	hurry(0);
	/* The kernel may be late by this much for a sleeper; a kill should not come in steps of it. */
	prctl(PR_SET_TIMERSLACK, 1);
	while (fgets(line, sizeof(line), stdin)) {
		int rc = -1;
		int given = sscanf(line, "%15s %llu %llu %llu %llu %llu %llu", verb, &number[0], &number[1], &number[2],
				   &number[3], &number[4], &number[5]);

		if (given == 7 && !strcmp(verb, "kill")) {
			rc = kill_many(number[0], number[1], number[2], number[3], number[4], number[5]);
			if (!rc)
				report();
		} else if (given == 4 && !strcmp(verb, "stop")) {
			rc = stop_victim(number[0], number[1], number[2]);
		} else if (given == 4 && !strcmp(verb, "point")) {
			rc = stop_at_point(number[0], number[1], number[2]);
		} else if (given == 1 && !strcmp(verb, "go")) {
			rc = go_on();
		} else if (given == 1 && !strcmp(verb, "end")) {
			rc = end();
			printf("{}\n");
		} else if (given == 4 && !strcmp(verb, "expect") && number[0] < SOAK_PAIRS) {
			shared->ends[number[0]].sent = number[1];
			shared->ends[number[0]].expected = number[2];
			shared->ends[number[0]].doubt = 0;
			printf("{}\n");
			rc = 0;
		} else if (given == 1 && !strcmp(verb, "wide")) {
			rc = open_wide();
			printf("{}\n");
		} else if (given == 1 && !strcmp(verb, "reap")) {
			rc = reap() || sweep() ? -1 : 0;
			printf("{}\n");
		} else if (given == 1 && !strcmp(verb, "report")) {
			report();
			rc = 0;
		}
		if (rc)
			return 3;
		fflush(stdout);
	}
	return 0;
}
