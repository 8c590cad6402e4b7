/* SPDX-License-Identifier: MIT */
/*
 * fuzz.c - damages arena images and runs every operation that ships on them.
 *
 *	image	an arena with all structures in it, as writers left it: grown tables, deleted
 *		entries still linked, shortcuts pending, claims unfinished
 *	seed	names one damaged image: which image, what is changed in it, which operations
 *		run, all drawn from one random sequence. The same seed does the same again.
 *
 * Every operation must come back, with a code of enum ads_error, having touched nothing but
 * the arena: all the rest of its 4 GiB window is inaccessible, so a stray access is a
 * signal, which names the seed and the operation. How long an operation may take is counted
 * in shared operations (ADS_POINTS), so that the verdict does not depend on the machine.
 *
 *	fuzz [--count N] [--first SEED] [--seconds N] [--verbose]
 *	     [--arena BASE --use_map FD --use_wide FD ...]
 *
 * With the base of a kernel arena, which has ARENA_BYTES, and the descriptors of the programs in
 * damaged.bpf.c, these operate on the images, in the kernel and in user space; see use_programs().
 *
 * Damage may make an operation destroy other things in the arena; that is not a failure.
 */
#define _GNU_SOURCE
#define ADS_POINTS 1
#if defined(__GNUC__) && !defined(__clang__)
/* No variable of ours that is not volatile changes between a setjmp and its longjmp and is
 * used after it. */
#pragma GCC diagnostic ignored "-Wclobbered"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#ifndef ADS_BUDGET_STEPS
#define ADS_BUDGET_STEPS 1024 /* more than any walk in an undamaged image needs */
#endif
#define ADS_SCAN_AHEAD_FROM 1
#include <sched.h>
static int fuzz_cpu(void), fuzz_by_user(void);
#define sched_getcpu fuzz_cpu /* the shard is drawn as all else is */
struct ads_arena;
struct ads_owner;
static struct ads_owner *fuzz_line(struct ads_arena *a);
#define ads_by_user fuzz_by_user /* some callers stand for BPF programs */
#define ads_owner_line(arena) fuzz_line(arena)
#define ads_random() 0x5eed5eedull /* what is in an image is the same in every run */
static int fuzz_line_is_dead(const struct ads_owner *line);
#define ads_owner_is_dead(line, who) fuzz_line_is_dead(line)
#define OWNERS 8
#define ads_owners_of_size(size) OWNERS
#define ads_grace_period(a) ((void)(a), 0) /* there are no programs to wait for */
#include "programs/damaged.bpf.c" /* declares `arena` */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

#define ARENA_BYTES (1 * ADS_MIB)
#define GUARD_BYTES (1 * ADS_MIB) /* below the arena, and above its window */
#define WORDS (ARENA_BYTES / 8)
#define LINES (ARENA_BYTES / ADS_LINE)
#define BASE 0x300000000000ull
#define OTHER_BASE 0x310000000000ull
#define IMAGES 4
#define SCAN_LIMIT 4096 /* entries of one scan: there are fewer in any image */
#define MOST_FAILURES 10

/* Shared operations of one call: a pass over every shard and a walk, each a few a step; what a
 * check may do grows with the memory. */
#define POINTS_OF_CALL (64ull * ADS_BUDGET_STEPS)
#define POINTS_OF_CHECK (16ull * WORDS)
/* Of a sweep for one record: the steps until it gives up. */
#define POINTS_OF_SWEEP (1000 * 8ull * (ADS_SWEEP_STEPS + WORDS))
#define BYTES_OF_CALL (16 * ADS_KIB) /* of new memory, where a page is enough */

/* --- structures -------------------------------------------------------------------------- */

struct structure {
	const char *name;
	__u32 kind, key_size, value_size, max_entries, first;
	struct ads_ref ref;
};

static struct structure structures[] = {
	{"map", ADS_KIND_HASHMAP, 8, 16, 2000, 1, {0, 0, 0, 0}},
	{"wide", ADS_KIND_HASHMAP, 20, 200, 40, 1, {0, 0, 0, 0}},
	{"tiny", ADS_KIND_HASHMAP, 1, 0, 300, 300, {0, 0, 0, 0}},
	{"list", ADS_KIND_LIST, 0, 24, 80, 0, {0, 0, 0, 0}},
	{"queue", ADS_KIND_QUEUE, 0, 40, 16, 0, {0, 0, 0, 0}},
	{"pool", ADS_KIND_POOL, 0, 48, 100, 0, {0, 0, 0, 0}},
	{"array", ADS_KIND_ARRAY, 0, 40, 3000, 0, {0, 0, 0, 0}},
	{"late", ADS_KIND_HASHMAP, 8, 16, 60, 1, {0, 0, 0, ADS_GRACE}},
	{"set", ADS_KIND_SET, 8, 0, 200, 1, {0, 0, 0, 0}},
	{"ring", ADS_KIND_RING, 0, 0, 2048, 0, {0, 0, 0, 0}},
	{"recorder", ADS_KIND_RING, 0, 0, 1024, 0, {0, 0, 0, ADS_OVERWRITE}},
	{"mpmc", ADS_KIND_MPMC, 0, 40, 16, 0, {0, 0, 0, 0}},
	{"nodes", ADS_KIND_INTRUSIVE, 0, 48, 100, 0, {0, 0, 0, 0}}, /* in objects of the pool */
	{"sorted", ADS_KIND_ORDEREDMAP, 0, 16, 300, 0, {0, 0, 0, ADS_LIVES}},
	{"spelt", ADS_KIND_ORDEREDMAP, 12, 16, 100, 0, {0, 0, 0, ADS_LIVES | ADS_BYTES}},
};
#define STRUCTURES (sizeof(structures) / sizeof(structures[0]))
#define OBJECTS 50
#define NODES 12 /* of the structures: the intrusive list */
#define NODE 8	/* where its node is in an object */

/* --- one run ------------------------------------------------------------------------------ */

static struct ads_arena fresh;	/* the arena as it is before each image */
static struct ads_arena kernel; /* the arena of the BPF programs */
static char images[IMAGES][ARENA_BYTES];
static const char *image;
static __u32 objects[OBJECTS];
static int verbose;

static __u64 seed, state;
static int cpu;
static const char *operation = "none";
static __u64 points, point_limit;
static volatile sig_atomic_t armed; /* an operation is running: jump back when it fails */
static sigjmp_buf back;
static __u64 most_points[2], failures, calls, codes[256];
static const char *most_points_of[2];

static unsigned char line_is_dirty[LINES];
static __u32 dirty[LINES], dirty_count;
static int all_dirty;
static int dies_after = -1; /* while an image is made: writes before the caller dies */

/* The words of an image that mean something, by what they mean. */
enum role { ROOT, OWNER, HEADER, POOL, SHARD, LINK, HASH, RECORD, SHORTCUT, TABLE, BLOCK, RING, ROLES };
static __u32 targets[IMAGES][ROLES][WORDS / 8];
static __u32 target_count[IMAGES][ROLES];
static int image_number;

static __u64 draw(void) /* SplitMix64 */
{
	__u64 z = state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static __u32 below(__u32 n)
{
	return (__u32)((draw() >> 32) * n >> 32);
}

static int fuzz_cpu(void)
{
	return cpu;
}

static int by_user = 1, owner; /* who runs: user space, with its line in the registry */
static int died;

static int fuzz_by_user(void)
{
	return by_user;
}

static struct ads_owner *fuzz_line(struct ads_arena *a)
{
	__u32 first, count = ads_owners(a, &first);

	return count && !ads_bad(a, first, 64ull * count) ? ads_at(a, struct ads_owner, first + 64 * ((__u32)owner % count))
							  : 0;
}

/* All but those who run have died, as far as one can see in damaged memory. */
static int fuzz_line_is_dead(const struct ads_owner *line)
{
	return line != fuzz_line(&arena) && line->who % 8 != 5;
}

static void complain(const char *format, ...)
{
	static __u64 seed_of_last = ~0ull;
	va_list list;

	if (seed == seed_of_last && !verbose)
		return; /* what follows from the first */
	seed_of_last = seed;
	failures++;
	printf("FAILED: seed %llu, image %d, %s: ", seed, image_number, operation);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	printf("\n");
	fflush(stdout);
}

static void touch(__u64 at, __u32 bytes)
{
	__u64 line;

	for (line = at / ADS_LINE; line <= (at + bytes - 1) / ADS_LINE && line < LINES; line++)
		if (!line_is_dirty[line]) {
			line_is_dirty[line] = 1;
			dirty[dirty_count++] = (__u32)line;
		}
}

static void on_point(int kind, const volatile void *word)
{
	__u64 at = (__u64)((const volatile char *)word - arena.base);

	if (kind != ADS_POINT_LOAD) {
		if (arena.flags & ADS_READONLY && at < ARENA_BYTES) {
			complain("writes at offset %#llx through a read-only mapping", at);
			siglongjmp(back, 1);
		}
		if (kind != ADS_POINT_HAND && dies_after >= 0 && dies_after-- == 0)
			siglongjmp(back, 1);
		if (at < ARENA_BYTES)
			touch(at, 8);
	}
	if (++points > point_limit && armed) {
		complain("does not end: %llu shared operations", points);
		siglongjmp(back, 1);
	}
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	static __u64 calls_seen;
	static int ticks;

	(void)context;
	if (number == SIGALRM) { /* a loop without shared operations */
		ticks = calls == calls_seen ? ticks + 1 : 0;
		calls_seen = calls;
		if (ticks < 20 || !armed)
			return;
		ticks = 0;
		complain("does not come back");
	} else {
		__u64 at = (__u64)(unsigned long)info->si_addr - BASE;

		if (number == SIGSEGV || number == SIGBUS)
			complain("signal %d at base + %#llx", number, at);
		else
			complain("signal %d: undefined behaviour", number);
	}
	if (!armed)
		_exit(3);
	siglongjmp(back, 1);
}

/* Sanitizers end the process; they say where, this says on what. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_death(void)
{
	complain("stopped by a sanitizer");
}

static void catch_signals(void)
{
	static char stack[64 * 1024];
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGABRT, SIGALRM};
	stack_t place;
	struct itimerval second = {{1, 0}, {1, 0}};
	struct sigaction action;
	__u32 i;

	memset(&place, 0, sizeof(place));
	place.ss_sp = stack;
	place.ss_size = sizeof(stack);
	sigaltstack(&place, 0);
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_signal;
	/* Not deferred: the handler does not return. */
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, 0);
	setitimer(ITIMER_REAL, &second, 0);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(on_death);
}

/* --- images --------------------------------------------------------------------------------- */

static void say(const char *what, long rc)
{
	printf("FAILED: the image could not be made: %s: %ld\n", what, rc);
	fflush(stdout);
	_exit(2);
}

static void key_of(const struct structure *s, __u64 number, char *key)
{
	__u32 i;

	memset(key, 0, ADS_MAX_KEY);
	for (i = 0; i < s->key_size && i < 8; i++)
		key[i] = (char)(number >> (8 * i));
}

static void value_of(char *value, __u64 number)
{
	memset(value, (int)number, 512);
}

static void name_of(const char *text, char *name)
{
	memset(name, 0, ADS_NAME_SIZE);
	memcpy(name, text, strlen(text));
}

/* Run a statement whose caller dies before its write number `writes`. */
#define dying(writes, statement)                                               \
	do {                                                                   \
		dies_after = (writes);                                         \
		owner = 1 + died++ % (OWNERS - 1);                             \
		if (!sigsetjmp(back, 0)) {                                     \
			statement;                                             \
		}                                                              \
		dies_after = -1;                                               \
		owner = 0;                                                     \
	} while (0)

static void must(const char *what, int rc)
{
	if (rc < 0)
		say(what, rc);
}

static void fill_map(const struct structure *s, __u32 entries)
{
	char key[ADS_MAX_KEY], value[512];
	__u32 entry, i;

	for (i = 0; i < entries; i++) {
		cpu = (int)(i & 3);
		key_of(s, i, key);
		value_of(value, i);
		must("insert", ads_hashmap_update(&arena, s->ref, key, value, ADS_INSERT, &entry));
	}
	for (i = 0; i < entries; i += 3) {
		key_of(s, i, key);
		must("delete", ads_hashmap_delete(&arena, s->ref, key));
	}
	for (i = 0; i < entries; i += 6) {
		key_of(s, i, key);
		must("insert again", ads_hashmap_update(&arena, s->ref, key, value, ADS_INSERT, &entry));
	}
	/* Deleted or replaced, and not unlinked; entries taken, and not published. */
	for (i = 1; i < entries; i += 24) {
		key_of(s, i, key);
		dying(1, ads_hashmap_delete(&arena, s->ref, key));
	}
	for (i = 13; i < entries; i += 48) {
		key_of(s, i, key);
		dying(3 + (int)(i / 48 % 6), ads_hashmap_update(&arena, s->ref, key, value, ADS_ANY, &entry));
	}
}

/* Double the table and leave its shortcuts in all states. */
static void grow_map(const struct structure *s)
{
	char key[ADS_MAX_KEY], value[512];
	__u32 i;

	ads_table_grow(&arena, s->ref.offset);
	for (i = 2; i < 300; i++) {
		key_of(s, i * 7, key);
		dying((int)(i % 5), ads_hashmap_get(&arena, s->ref, key, value));
	}
}

/* Records popped and waiting, hints behind, entries leaked. */
static void fill_mpmc(struct ads_ref ref)
{
	char value[512];
	__u32 i;

	for (i = 0; i < 40; i++) {
		value_of(value, i);
		must("mpmc push", ads_mpmc_push(&arena, ref, value));
		if (i >= 9)
			must("mpmc pop", ads_mpmc_pop(&arena, ref, value));
		if (i % 8 == 3)
			dying(4, ads_mpmc_push(&arena, ref, value));
		if (i % 8 == 7) {
			must("mpmc push", ads_mpmc_push(&arena, ref, value));
			dying(3, ads_mpmc_pop(&arena, ref, value));
		}
	}
	/* One pushed and one popped, whose slots and links do not say all of it yet. */
	dying(10, ads_mpmc_push(&arena, ref, value));
	dying(1, ads_mpmc_pop(&arena, ref, value));
}

/* Not in the order in which the objects lie in memory. */
static __u64 some_node_order(__u32 i)
{
	return i * 37 % OBJECTS;
}

static __u64 order_of(const struct structure *s, const char *key)
{
	return s->ref.flags & ADS_BYTES ? ads_order_of_bytes(key, s->ref.key_size) : ads_order_of_integer(key, 8, s->ref.flags);
}

/* Other first words in another order, and words behind them. */
static void ordered_key_of(__u32 number, char *key)
{
	memset(key, 0, ADS_MAX_KEY);
	key[0] = (char)(number * 37);
	key[7] = key[10] = (char)number;
}

/* As fill_map(), and hints that are stale, half made, or of towers that were not finished. */
static void fill_ordered(const struct structure *s, __u32 entries)
{
	char key[ADS_MAX_KEY], value[512];
	__u32 entry, i;

	for (i = 0; i < entries; i++) {
		cpu = (int)(i & 3);
		ordered_key_of(i, key);
		value_of(value, i);
		must("insert", ads_orderedmap_update(&arena, s->ref, ads_orderedmap_seek, order_of(s, key), key, value, ADS_ANY, &entry));
		if (i % 5 == 1)
			must("pop", ads_orderedmap_pop(&arena, s->ref, ads_orderedmap_seek, order_of(s, key), key, value));
		else if (i % 7 == 1)
			dying((int)(i % 10), ads_orderedmap_pop(&arena, s->ref, ads_orderedmap_seek, order_of(s, key), key, value));
		key[0]++;
		if (i % 9 == 1)
			dying((int)(i % 14), ads_orderedmap_update(&arena, s->ref, ads_orderedmap_seek, order_of(s, key), key, value,
								   ADS_ANY, &entry));
	}
}

static void make_structures(void)
{
	char name[ADS_NAME_SIZE], key[ADS_MAX_KEY], value[512];
	__u32 i, entry;
	__u64 order;

	for (i = 0; i < STRUCTURES; i++) {
		struct structure *s = &structures[i];
		struct ads_directory_value named = {s->kind, 0, 0, 200};

		s->ref.offset = 0;
		s->ref.key_size = s->key_size;
		s->ref.value_size = s->value_size;
		if (!ads_structure_open(&arena, s->name, s->kind, &s->ref)) {
			ads_at(&arena, struct ads_header, s->ref.offset)->seed = 0x5eed + i;
			if (s->kind == ADS_KIND_ORDEREDMAP) /* its towers have a header of their own */
				ads_at(&arena, struct ads_header, ads_orderedmap_index(s->ref).offset)->seed = 0x70e5;
			continue; /* a program's */
		}
		must(s->name, s->kind == ADS_KIND_QUEUE
				      ? ads_queue_create(&arena, &s->ref, s->max_entries)
			      : s->kind == ADS_KIND_ARRAY
				      ? ads_array_create(&arena, &s->ref, s->max_entries)
			      : s->kind == ADS_KIND_RING
				      ? ads_ring_create(&arena, &s->ref, s->max_entries)
			      : s->kind == ADS_KIND_ORDEREDMAP
				      ? ads_orderedmap_create(&arena, &s->ref, s->max_entries)
			      : s->kind == ADS_KIND_MPMC
				      ? ads_mpmc_create(&arena, &s->ref, s->max_entries)
			      : s->kind == ADS_KIND_INTRUSIVE
				      ? ads_intrusive_create(&arena, &s->ref, structures[5].ref, NODE)
				      : ads_hashmap_create(&arena, s->kind, &s->ref, s->max_entries, s->first));
		ads_at(&arena, struct ads_header, s->ref.offset)->seed = 0x5eed + i; /* no chance */
		must("schema", ads_alloc(&arena, 200, &named.schema_offset));
		named.offset = s->ref.offset;
		name_of(s->name, name);
		must("name", ads_directory_add(&arena, name, &named));
	}
	ads_at(&arena, struct ads_header, ads_root_of(&arena)->directory)->seed = 0;
	fill_map(&structures[0], 400);
	fill_map(&structures[1], 40);
	fill_map(&structures[2], 100);
	fill_map(&structures[7], 40);
	must("seal", ads_pool_seal(&arena, ads_pool_of(structures[7].ref), &order));
	for (i = 2; i < 20; i += 3) { /* so that some wait in either shard */
		key_of(&structures[7], i, key);
		must("delete", ads_hashmap_delete(&arena, structures[7].ref, key));
	}
	fill_map(&structures[8], 100);
	fill_ordered(&structures[13], 150);
	fill_ordered(&structures[14], 60);
	for (i = 0; i < 60; i++) {
		value_of(value, i);
		must("push", ads_list_push(&arena, structures[3].ref, value, &order, &entry));
		if (i % 5 == 0)
			must("pop", ads_list_delete(&arena, structures[3].ref, order));
		if (i % 7 == 1)
			dying(1, ads_list_delete(&arena, structures[3].ref, order));
	}
	for (i = 30; i < 60; i += 3)
		dying(1, ads_list_delete(&arena, structures[3].ref, ADS_LIST_FIRST_ORDER - i));
	for (i = 0; i < 40; i++) {
		must("queue push", ads_queue_push(&arena, structures[4].ref, value));
		if (i >= 9)
			must("queue pop", ads_queue_pop(&arena, structures[4].ref, value));
	}
	for (i = 0; i < OBJECTS; i++)
		must("object", ads_pool_alloc(&arena, structures[5].ref, &objects[i]));
	for (i = 0; i < OBJECTS; i += 4)
		must("object free", ads_pool_free(&arena, structures[5].ref, objects[i]));
	for (i = 0; i < 8; i++) {
		value_of(value, i);
		must("array set", ads_array_set(&arena, structures[6].ref, 3000, i * i * 50, value));
	}
	for (i = 0; i < 100; i++) { /* two laps, padding, and a record that a dead producer has committed */
		if (i >= 10)
			must("ring pop", ads_ring_pop(&arena, structures[9].ref, value, sizeof(value), &entry));
		must("ring push", ads_ring_push(&arena, structures[9].ref, value, i * 7 % 90));
		must("record", ads_ring_push(&arena, structures[10].ref, value, i * 7 % 90));
	}
	dying(4, ads_ring_push(&arena, structures[9].ref, value, 8));
	dying(5, ads_ring_push(&arena, structures[10].ref, value, 80));
	fill_mpmc(structures[11].ref);
	/* Linked, removed and not unlinked, claimed and not linked. */
	for (i = 0; i < OBJECTS; i++)
		if (i % 4)
			must("link", ads_intrusive_insert(&arena, structures[NODES].ref, some_node_order(i), objects[i] + NODE));
	for (i = 1; i < OBJECTS; i += 8)
		dying(1 + (int)(i / 8 % 2), ads_intrusive_remove(&arena, structures[NODES].ref, objects[i] + NODE));
	for (i = 2; i < OBJECTS; i += 8) {
		must("remove", ads_intrusive_remove(&arena, structures[NODES].ref, objects[i] + NODE));
		dying(1 + (int)(i / 8 % 5), ads_intrusive_insert(&arena, structures[NODES].ref, i, objects[i] + NODE));
	}
}

static void target(enum role role, __u32 at, __u32 bytes)
{
	for (; bytes >= 8; at += 8, bytes -= 8)
		if (target_count[image_number][role] < WORDS / 8)
			targets[image_number][role][target_count[image_number][role]++] = at;
}

static void find_targets(void)
{
	__u64 cursor = ads_root_of(&arena)->cursor;
	__u64 at;
	__u32 i, k;

	target(ROOT, ADS_ROOT_OFFSET, 136);
	target(OWNER, (__u32)ads_root_of(&arena)->owners, OWNERS * (__u32)sizeof(struct ads_owner));
	for (i = 0; i < STRUCTURES; i++)
		if (structures[i].kind == ADS_KIND_ORDEREDMAP) {
			__u32 index = ads_orderedmap_index(structures[i].ref).offset;

			target(HEADER, index, 40);
			target(POOL, index + 192, 20);
			target(POOL, index + 256, 16);
			target(SHARD, index + 320, 64 * ADS_ALL_SHARDS);
			target(LINK, ads_orderedmap_head(structures[i].ref, 1), 8 * ADS_LEVELS);
		}
	for (i = 0; i <= STRUCTURES; i++) {
		__u32 offset = i < STRUCTURES ? structures[i].ref.offset : (__u32)ads_root_of(&arena)->directory;
		__u64 table = ads_at(&arena, struct ads_header, offset)->table;

		target(HEADER, offset, 40);
		if (i < STRUCTURES && structures[i].kind == ADS_KIND_ARRAY) {
			target(TABLE, offset + 128, 8 * (__u32)ads_array_chunks(structures[i].value_size, 3000));
			continue;
		}
		target(LINK, offset + 128, 8);
		if (i < STRUCTURES && structures[i].kind == ADS_KIND_QUEUE) {
			target(RING, offset + 128, 16);
			target(RING, offset + 192, 16);
			continue;
		}
		if (i < STRUCTURES && structures[i].kind == ADS_KIND_RING) {
			target(RING, offset + 128, 16);
			target(RING, offset + 256, 8);
			target(RING, offset + 384, 16);
			target(RECORD, offset + (__u32)sizeof(struct ads_ring), structures[i].max_entries);
			continue;
		}
		if (i < STRUCTURES && structures[i].kind == ADS_KIND_MPMC) {
			target(RING, offset + (__u32)__builtin_offsetof(struct ads_mpmc, tail), 8);
			target(RING, offset + (__u32)__builtin_offsetof(struct ads_mpmc, head), 8);
			target(RING, offset + (__u32)sizeof(struct ads_mpmc), 8 * structures[i].max_entries);
		}
		if (i < STRUCTURES && structures[i].kind == ADS_KIND_INTRUSIVE)
			continue;
		target(POOL, offset + 192, 20);
		target(POOL, offset + 256, 16);
		for (k = 0; k < ADS_ALL_SHARDS; k++)
			target(SHARD, offset + 320 + 64 * k, 24);
		while (i < STRUCTURES && ads_kind_is_hashed(structures[i].kind) && table) {
			target(TABLE, (__u32)table, 8);
			target(SHORTCUT, (__u32)table + 64, 8u << ads_table_bits(table));
			table = ads_table_previous(&arena, table);
		}
	}
	for (at = ADS_HEAP_OFFSET; at <= cursor;) {
		__u64 word = *ads_at(&arena, __u64, at);
		__u64 bytes = ads_block_bytes(&arena, word);

		target(BLOCK, (__u32)at, 8);
		if ((word & 3) == ADS_BLOCK_CHUNK) {
			__u32 stride = ads_at(&arena, struct ads_pool, (__u32)word & ~63u)->stride;

			for (k = 0; k < word >> 32; k++) {
				__u32 entry = (__u32)at + 8 + k * stride;

				target(LINK, entry, 8);
				target(HASH, entry + 8, 8);
				target(RECORD, entry + 16, stride - 16 > 64 ? 64 : stride - 16);
			}
		}
		if (!bytes)
			break;
		at += bytes;
	}
}

static void make_image(int number, int fd)
{
	char key[ADS_MAX_KEY], value[512];
	__u32 entry;
	struct ads_root *root;

	must("arena", ads_arena_create(&arena, ARENA_BYTES, BASE, fd, 0));
	root = ads_root_of(&arena);
	if (kernel.base) { /* with the structures that were made for the programs */
		memcpy(arena.base, kernel.base, ARENA_BYTES);
		root->base = BASE;
		must("arena", ads_arena_reaches(&arena, ARENA_BYTES) - 1);
	}
	root->creation_id = 1;
	image_number = number;
	for (owner = 0; owner < OWNERS; owner++)
		fuzz_line(&arena)->who = (__u64)(owner + 1) << 32 | (__u64)(owner + 1);
	died = 0;
	by_user = number % 2; /* else they stand for programs, and have nothing in hand */
	owner = 0;
	make_structures();
	if (number > 0)
		grow_map(&structures[0]);
	if (number == 1) { /* a chunk claimed for an array, nothing else done */
		value_of(value, 1);
		dying(1, ads_array_set(&arena, structures[6].ref, 3000, 2999, value));
	}
	if (number == 2) { /* a chunk claimed for a pool, nothing else done */
		__u32 i;

		for (i = 0; i < 100 && !ads_pool_alloc(&arena, structures[5].ref, &entry); i++)
			dying(1, (cpu = (int)(4 + i % 8), ads_pool_alloc(&arena, structures[5].ref, &entry)));
	}
	if (number == 3) { /* a table claimed, nothing else done */
		key_of(&structures[2], 1, key);
		value_of(value, 1);
		dying(1, ads_table_grow(&arena, structures[1].ref.offset));
	}
	cpu = 0;
	for (died = 0; by_user && died + 1 < OWNERS;) { /* each with something in hand */
		key_of(&structures[0], 5 + 6 * (__u64)died, key);
		ads_hashmap_get(&arena, structures[0].ref, key, value); /* links the shortcut */
		if (died % 2)
			dying(1, ads_hashmap_delete(&arena, structures[0].ref, key));
		else
			dying(1 + died, ads_hashmap_update(&arena, structures[0].ref, key, value, ADS_ANY, &entry));
	}
	find_targets();
	memcpy(images[number], arena.base, ARENA_BYTES);
}

/* What lies in the window but outside of the arena must not be touched. */
static void guard(void)
{
	__u64 above = ADS_MAX_SIZE - ARENA_BYTES + GUARD_BYTES;

	if (mmap(arena.base + ARENA_BYTES, above, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED ||
	    mmap(arena.base - GUARD_BYTES, GUARD_BYTES, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		say("guard", errno);
}

static void restore(void)
{
	__u32 i;

	if (all_dirty) {
		memcpy(arena.base, image, ARENA_BYTES);
		memset(line_is_dirty, 0, sizeof(line_is_dirty));
	} else {
		for (i = 0; i < dirty_count; i++) {
			memcpy(arena.base + (__u64)dirty[i] * ADS_LINE, image + (__u64)dirty[i] * ADS_LINE, ADS_LINE);
			line_is_dirty[dirty[i]] = 0;
		}
	}
	dirty_count = 0;
	all_dirty = 0;
	arena = fresh;
}

/* --- damage --------------------------------------------------------------------------------- */

static __u32 some_target(void)
{
	__u32 role = below(ROLES + 1);
	__u32 count;

	if (role == ROLES) /* anything */
		return 8 * below((__u32)(fresh.limit / 8));
	count = target_count[image_number][role];
	return count ? targets[image_number][role][below(count)] : 64;
}

static __u32 wild_offset(void)
{
	static const __u32 edges[] = {0,	 1,	     8,		56,	    64,
				      128,	 1016,	     1024,	0x7ffffff8, 0x80000000,
				      0xfffff000, 0xffffffc0, 0xfffffff8, 0xffffffff, ARENA_BYTES - 8,
				      ARENA_BYTES, ARENA_BYTES - 32, ARENA_BYTES - 64};

	switch (below(8)) {
	case 0:
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return (__u32)fresh.limit - 8 * below(64) + 8 * below(64);
	case 2:
		return (__u32)draw();
	case 3:
		return 8 * below((__u32)WORDS);
	case 4: /* a structure */
		return structures[below(STRUCTURES)].ref.offset + 64 * below(4);
	case 5: /* not aligned */
		return some_target() + below(8);
	default:
		return some_target();
	}
}

static __u32 wild_count(void)
{
	switch (below(5)) {
	case 0:
		return below(70); /* sizes, shifts, numbers of entries */
	case 1:
		return 1u << below(32);
	case 2:
		return (1u << below(32)) - 1;
	case 3:
		return 0u - below(20);
	default:
		return (__u32)draw();
	}
}

static __u64 damaged(__u64 word)
{
	switch (below(16)) {
	case 0:
	case 1:
		return word ^ 1ull << below(64);
	case 2:
		return word ^ 1ull << below(64) ^ 1ull << below(64);
	case 3:
		return draw();
	case 4:
		return below(2) ? 0 : ~0ull;
	case 5:
	case 6:
		return (word >> 32 << 32) | wild_offset();
	case 7:
		return (word >> 32 << 32) | wild_offset() | below(8);
	case 8:
		return (__u64)wild_count() << 32 | (__u32)word;
	case 9:
		return (__u64)wild_count() << 32 | wild_offset();
	case 10:
		return word ^ (below(2) ? ADS_LINK_MARK : 1ull << below(3));
	case 11: /* another word: cycles, chains that run together */
		return *ads_at(&arena, __u64, some_target() & ~7u);
	case 12:
		return word + (1ull << below(64));
	case 13:
		return word - 8 * (1 + below(16));
	case 14:
		return (word >> 32 << 32) | wild_count();
	default: /* one field of a chunk word */
		return (word & ~(0xffffull << 32)) | (__u64)below(0x10000) << (below(2) ? 32 : 48);
	}
}

static void put(__u32 at, __u64 word)
{
	at &= ~7u;
	if (at + 8 > ARENA_BYTES)
		return;
	if (verbose)
		printf("  %#x: %#llx -> %#llx\n", at, *ads_at(&arena, __u64, at), word);
	touch(at, 8);
	*ads_at(&arena, __u64, at) = word;
}

static int root_is_damaged;

static void damage(void)
{
	static const __u32 numbers[] = {1, 1, 1, 2, 2, 3, 5, 16};
	__u32 n = numbers[below(8)];

	root_is_damaged = 0;
	while (n--) {
		__u32 at = some_target();

		root_is_damaged |= at < ADS_HEAP_OFFSET;
		switch (below(16)) {
		case 0: { /* swap */
			__u32 other = some_target();
			__u64 word = *ads_at(&arena, __u64, other);

			put(other, *ads_at(&arena, __u64, at));
			put(at, word);
			break;
		}
		case 1: { /* a stretch of zeros, as of a page that was never written */
			__u32 words = 1u << below(10);

			for (; words--; at += 8)
				put(at, 0);
			break;
		}
		case 2: { /* a stretch that belongs elsewhere */
			__u32 from = some_target(), words = 1u << below(7);

			for (; words-- && from + 8 <= ARENA_BYTES; at += 8, from += 8)
				put(at, *ads_at(&arena, __u64, from));
			break;
		}
		default:
			put(at, damaged(*ads_at(&arena, __u64, at)));
		}
	}
}

/* --- operations ------------------------------------------------------------------------------- */

static const int known_codes[] = {ADS_OK,	  ADS_ABSENT,	 ADS_NO_MEMORY,	  ADS_EXISTS,	  ADS_INVALID,
				  ADS_FULL,	  ADS_READ_ONLY, ADS_BUDGET,	  ADS_WRONG_ABI,  ADS_WRONG_ORDER,
				  ADS_BASE_TAKEN, ADS_WRONG_TYPE, ADS_DAMAGED,	  ADS_REMOVED,	  ADS_TOO_LONG,
				  ADS_NOT_RESERVED, ADS_LINKED};

static void judge(long rc, int more)
{
	__u32 i;

	if (points > most_points[point_limit > POINTS_OF_CALL]) {
		most_points[point_limit > POINTS_OF_CALL] = points;
		most_points_of[point_limit > POINTS_OF_CALL] = operation;
	}
	if (arena.base != fresh.base || arena.size != fresh.size || arena.limit > arena.size)
		complain("the view is damaged");
	if (verbose && rc)
		printf("  %s: %ld\n", operation, rc);
	if (rc <= 0 && rc > -256)
		codes[-rc]++;
	if (more && rc >= 0)
		return;
	for (i = 0; i < sizeof(known_codes) / sizeof(known_codes[0]); i++)
		if (rc == known_codes[i])
			return;
	complain("returned %ld", rc);
}

/* Run an expression as one operation; its value, or ADS_DAMAGED if it had to be ended. */
#define attempt_within(limit, what, more, expression)                          \
	({                                                                     \
		volatile long rc_ = ADS_DAMAGED;                                   \
		operation = what;                                              \
		points = 0;                                                    \
		point_limit = (limit);                                         \
		calls++;                                                       \
		if (!sigsetjmp(back, 0)) {                                     \
			armed = 1;                                             \
			rc_ = (long)(expression);                              \
			armed = 0;                                             \
			judge(rc_, more);                                      \
		}                                                              \
		armed = 0;                                                     \
		rc_;                                                           \
	})
#define attempt(what, expression) attempt_within(POINTS_OF_CALL, what, 0, expression)
/* Which may look for their place again and again. */
#define attempt_ordered(what, expression) attempt_within(16 * POINTS_OF_CALL, what, 0, expression)
#define attempt_number(what, expression) attempt_within(POINTS_OF_CALL, what, 1, expression)

/* Private memory around which nothing may change. */
static struct {
	char before[64];
	char key[ADS_MAX_KEY];
	char between[64];
	char value[ADS_MAX_VALUE];
	char after[64];
} buffers;

static void check_buffers(void)
{
	int i;

	for (i = 0; i < 64; i++)
		if (buffers.before[i] | buffers.between[i] | buffers.after[i]) {
			complain("wrote outside of its buffers");
			memset(&buffers, 0, sizeof(buffers));
		}
}

/* An entry that was returned must be one that can be read and written. */
static void check_entry(long rc, const struct structure *s, __u32 entry)
{
	if (rc == ADS_OK && (entry & 7 || entry < ADS_LINE ||
			     (__u64)entry + ads_entry_stride(s->ref) > arena.size))
		complain("returned an entry at %#x", entry);
}

static void scan(const struct structure *s)
{
	struct ads_scan walk;
	char last[ADS_MAX_KEY];
	__u32 entry, n;
	long rc = ads_kind_is_hashed(s->kind)
			  ? attempt("scan start", ads_hashmap_scan(&arena, s->ref, &walk))
			  : attempt("scan start", ads_scan_start(&arena, &walk, ads_list_head(s->ref)));

	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++) {
		rc = attempt("scan", ads_scan_next(&arena, &walk, s->ref, last, buffers.key, buffers.value, &entry));
		check_entry(rc, s, entry);
		memcpy(last, buffers.key, s->key_size);
	}
}

/* Records of a sweep, with nothing else behind those that there is room for. */
static char records[(1 << 20) + 64];

static void sweep(const struct structure *s)
{
	static struct ads_sweep walk;
	__u32 size = ads_round_up(s->ref.key_size, 8) + ads_round_up(s->ref.value_size, 8), room, i;
	__u64 done = 0;
	long rc = attempt("sweep start", ads_hashmap_sweep(&arena, s->ref, &walk));

	room = size ? (__u32)(sizeof(records) - 64) / size : 0;
	while (rc >= 0 && done < SCAN_LIMIT && done < room) {
		__u32 more = 1 + below(200);

		more = more < room - done ? more : (__u32)(room - done);
		memset(records + (done + more) * size, 0x5a, 64);
		rc = attempt_within(POINTS_OF_SWEEP, "sweep", 1,
				    ads_hashmap_sweep_next(&arena, s->ref, &walk, records, done, more));
		for (i = 0; i < 64; i++)
			if (records[(done + more) * size + i] != 0x5a)
				complain("a sweep wrote behind its %u records", more);
		if (rc > (long)more)
			complain("a sweep returned %ld of %u records", rc, more);
		if (rc <= 0)
			break;
		done += (__u64)rc;
	}
	operation = "prefetch";
	ads_hashmap_prefetch(&arena, s->ref, records, 1 + below(32));
}

/* What waits, without taking it. */
static void walk_queue(const struct structure *s)
{
	struct ads_queue_cursor c = {0, 0};
	long rc = attempt("queue walk", ads_queue_walk(&arena, s->ref, &c));
	__u32 n;

	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++)
		rc = attempt("queue read", ads_queue_read(&arena, s->ref, &c, buffers.value));
}

static void walk_mpmc(const struct structure *s)
{
	struct ads_mpmc_cursor c;
	long rc;
	__u32 n;

	memset(&c, 0, sizeof(c));
	rc = attempt("mpmc walk", ads_mpmc_walk(&arena, s->ref, &c));
	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++)
		rc = attempt("mpmc read", ads_mpmc_read(&arena, s->ref, &c, buffers.value));
}

static void walk_pool(const struct structure *s)
{
	struct ads_pool_walk c;
	__u32 object, n;
	long rc = ADS_OK;

	memset(&c, 0, sizeof(c));
	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++)
		rc = attempt_within(POINTS_OF_CHECK, "pool next", 0,
				    ads_pool_next(&arena, s->ref, &c, &object, buffers.value));
}

/* A key that is there, was there, or never was; sometimes one from the damaged memory. */
static void some_key(const struct structure *s)
{
	__u32 number = below(s->max_entries);

	if (!below(8) && s->kind != ADS_KIND_ORDEREDMAP)
		memcpy(buffers.key, arena.base + some_target() / 2, s->key_size);
	else
		key_of(s, number, buffers.key);
	if (s->kind == ADS_KIND_ORDEREDMAP)
		ordered_key_of(number, buffers.key);
}

static __u64 some_order(void)
{
	switch (below(4)) {
	case 0:
		return draw();
	case 1:
		return 0;
	default:
		return ADS_LIST_FIRST_ORDER - below(70);
	}
}

/* What a caller has as the number of elements: a constant, or what the header says now. */
static __u32 entries_of(const struct structure *s)
{
	return below(2) ? s->max_entries : ads_array_entries(&arena, s->ref);
}

/* Mostly in range. */
static __u32 some_index(const struct structure *s)
{
	return below(8) ? below(s->max_entries) : wild_count();
}

static void walk_array(const struct structure *s)
{
	__u32 index = 0, count = 0, n;
	long rc = ADS_OK;

	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++) {
		rc = attempt_within(POINTS_OF_CHECK, "array next", 0, ads_array_next(&arena, s->ref, &index, &count));
		if (rc)
			break;
		if (!count || index + count < index)
			complain("an array has %u elements from %u on", count, index);
		attempt("array get", ads_array_get(&arena, s->ref, entries_of(s), index, buffers.value));
		index += count;
	}
}

static void read_ring(const struct structure *s)
{
	struct ads_ring_cursor c;
	__u32 length, n;
	long rc = attempt("ring walk", ads_ring_walk(&arena, s->ref, &c));

	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++)
		rc = attempt("ring read", ads_ring_read(&arena, s->ref, &c, buffers.value, 64 + below(64), &length));
	attempt_number("ring waiting", (ads_ring_waiting(&arena, s->ref), ads_ring_dropped(&arena, s->ref), 0));
}

/* Room that was reserved must be in the arena. */
static void check_room(long rc, __u32 place, __u32 length)
{
	if (rc == ADS_OK && (place & 7 || place < ADS_LINE || (__u64)place + length > arena.size))
		complain("returned room at %#x", place);
}

static void produce(const struct structure *s)
{
	struct ads_ring_draft draft;
	__u32 length = below(100), place = 0;
	long rc = attempt("ring push", ads_ring_push(&arena, s->ref, buffers.value, length));

	memset(&draft, 0, sizeof(draft));
	if (below(2))
		rc = attempt("ring append", ads_ring_append(&arena, s->ref, buffers.value, below(600), 0));
	rc = attempt("ring reserve", ads_ring_reserve(&arena, s->ref, below(8) ? length : wild_count(), &draft, &place));
	check_room(rc, place, length);
	if (below(2))
		attempt("ring commit", ads_ring_commit(&arena, s->ref, &draft));
	else
		attempt("ring submit", ads_ring_submit(&arena, s->ref, &draft));
	attempt("ring publish", ads_ring_publish(&arena, s->ref));
}

/* To rings for many producers, which all are this one. */
static void produce_as_many(const struct structure *s)
{
	struct ads_rings_draft draft;
	struct ads_rings many;
	__u32 length = below(100), place = 0, i;
	long rc;

	many.count = ADS_RINGS_MOST;
	many.flags = s->ref.flags;
	for (i = 0; i < ADS_RINGS_MOST; i++)
		many.each[i] = s->ref.offset;
	attempt("rings push", ads_rings_push(&arena, many.each, many.flags, buffers.value, length));
	rc = attempt("rings reserve", ads_rings_reserve(&arena, many.each, many.flags, length, &draft, &place));
	check_room(rc, place, length);
	if (below(2))
		attempt("rings submit", ads_rings_submit(&arena, many.flags, &draft));
	else
		ads_rings_discard(&arena, &draft);
	attempt_number("rings taken", ads_rings_taken(&arena, &many));
	if (!below(4))
		attempt_number("rings free", ads_rings_free(&arena, &many));
}

static void consume(const struct structure *s)
{
	struct ads_ring_cursor batch;
	__u32 length = 0, place = 0, n;
	long rc;

	attempt("ring pop", ads_ring_pop(&arena, s->ref, buffers.value, below(100), &length));
	memset(&batch, 0, sizeof(batch));
	rc = attempt("ring peek", ads_ring_peek(&arena, s->ref, &batch));
	for (n = below(20); rc == ADS_OK && n; n--) {
		rc = attempt("ring next", ads_ring_next(&arena, s->ref, &batch, &place, &length));
		check_room(rc, place, length);
	}
	attempt("ring release", ads_ring_release(&arena, s->ref, &batch));
}

static __u32 some_node(void)
{
	return (below(4) ? objects[below(OBJECTS)] : wild_offset()) + NODE;
}

/* A node that was returned can be read. */
static void check_node(long rc, __u32 node)
{
	if (rc == ADS_OK && (node & 7 || node < ADS_LINE || node + sizeof(struct ads_node) > arena.size))
		complain("returned a node at %#x", node);
}

static void read_nodes(const struct structure *s)
{
	struct ads_scan walk;
	__u64 order;
	__u32 node = 0, i;
	long rc;

	for (i = 0; i < 3; i++) {
		rc = attempt("nodes find", ads_intrusive_find(&arena, s->ref, some_node_order(below(OBJECTS)), &node));
		check_node(rc, node);
		attempt("nodes contains", ads_intrusive_contains(&arena, s->ref, some_node(), &order));
	}
	rc = attempt("nodes first", ads_intrusive_first(&arena, s->ref, &order, &node));
	check_node(rc, node);
	rc = attempt("nodes scan start", ads_scan_start(&arena, &walk, ads_list_head(s->ref)));
	for (i = 0; rc == ADS_OK && i < SCAN_LIMIT; i++) {
		rc = attempt("nodes scan", ads_intrusive_next(&arena, s->ref, &walk, &node));
		check_node(rc, node);
	}
	attempt_within(POINTS_OF_CHECK, "nodes len", 1, ads_intrusive_len(&arena, s->ref));
}

static void write_nodes(const struct structure *s)
{
	__u64 order = 0;
	__u32 node = 0, i;
	long rc;

	for (i = 0; i < 3; i++) {
		attempt("nodes push", ads_intrusive_push(&arena, s->ref, some_node(), &order));
		attempt("nodes insert", ads_intrusive_insert(&arena, s->ref, some_node_order(below(OBJECTS)), some_node()));
		attempt("nodes remove", ads_intrusive_remove(&arena, s->ref, some_node()));
	}
	rc = attempt("nodes pop", ads_intrusive_pop(&arena, s->ref, some_node_order(below(OBJECTS)), &node));
	check_node(rc, node);
	rc = attempt("nodes pop first", ads_intrusive_pop_first(&arena, s->ref, &order, &node));
	check_node(rc, node);
}

static void read_ordered(const struct structure *s)
{
	struct ads_scan walk;
	char last[ADS_MAX_KEY];
	__u32 entry = 0, i;
	__u64 order;
	long rc;

	for (i = 0; i < 5; i++) {
		some_key(s);
		order = order_of(s, buffers.key);
		rc = attempt_ordered("ordered find", ads_orderedmap_find(&arena, s->ref, ads_orderedmap_seek, order, buffers.key, &entry));
		check_entry(rc, s, entry);
		attempt_ordered("ordered get", ads_orderedmap_get(&arena, s->ref, ads_orderedmap_seek, order, buffers.key, buffers.value));
	}
	memcpy(last, buffers.key, sizeof(last));
	rc = below(2) ? attempt_ordered("ordered scan", ads_orderedmap_scan_from(&arena, s->ref, ads_orderedmap_seek, &walk, order, last,
									 (int)below(2)))
		      : attempt_ordered("ordered scan", ads_orderedmap_scan(&arena, s->ref, &walk));
	for (i = 0; rc == ADS_OK && i < SCAN_LIMIT; i++) {
		rc = attempt_ordered("ordered next", ads_orderedmap_next(&arena, s->ref, ads_orderedmap_seek, &walk, last, buffers.key,
								 buffers.value, &entry));
		check_entry(rc, s, entry);
		memcpy(last, buffers.key, s->key_size);
	}
	attempt_number("ordered len", ads_collection_len(&arena, s->ref));
}

static void write_ordered(const struct structure *s)
{
	__u32 entry = 0, i;
	__u64 order;
	long rc;

	for (i = 0; i < 3; i++) {
		some_key(s);
		rc = attempt_ordered("ordered update", ads_orderedmap_update(&arena, s->ref, ads_orderedmap_seek, order_of(s, buffers.key),
								     buffers.key, buffers.value, (enum ads_update_mode)below(3),
								     &entry));
		check_entry(rc, s, entry);
		some_key(s);
		attempt_ordered("ordered pop", ads_orderedmap_pop(&arena, s->ref, ads_orderedmap_seek, order_of(s, buffers.key), buffers.key,
							  below(2) ? buffers.value : 0));
	}
	attempt_ordered("ordered pop first", ads_orderedmap_pop_first(&arena, s->ref, ads_orderedmap_seek, &order, buffers.key, buffers.value));
}

static void read_structure(const struct structure *s)
{
	__u32 entry = 0, i;
	long rc;

	switch (s->kind) {
	case ADS_KIND_HASHMAP:
	case ADS_KIND_SET:
		for (i = 0; i < 6; i++) {
			some_key(s);
			rc = attempt("find", ads_hashmap_find(&arena, s->ref, buffers.key, &entry));
			check_entry(rc, s, entry);
			attempt("get", ads_hashmap_get(&arena, s->ref, buffers.key, buffers.value));
		}
		scan(s);
		sweep(s);
		attempt_number("len", ads_collection_len(&arena, s->ref));
		break;
	case ADS_KIND_LIST:
		for (i = 0; i < 4; i++) {
			__u64 order = some_order();

			rc = attempt("list find", ads_list_find(&arena, s->ref, order, &entry));
			check_entry(rc, s, entry);
			attempt("list get", ads_list_get(&arena, s->ref, order, buffers.value));
		}
		scan(s);
		{
			__u64 order;

			attempt("list first", ads_list_first(&arena, s->ref, &order, buffers.value));
		}
		attempt_number("list len", ads_collection_len(&arena, s->ref));
		break;
	case ADS_KIND_ARRAY:
		for (i = 0; i < 6; i++)
			attempt("array get", ads_array_get(&arena, s->ref, entries_of(s), some_index(s), buffers.value));
		walk_array(s);
		attempt_within(POINTS_OF_CHECK, "array populated", 1, ads_array_populated(&arena, s->ref));
		break;
	case ADS_KIND_QUEUE:
		attempt_number("queue len", (ads_queue_len(&arena, s->ref), 0));
		walk_queue(s);
		break;
	case ADS_KIND_RING:
		read_ring(s);
		break;
	case ADS_KIND_ORDEREDMAP:
		read_ordered(s);
		break;
	case ADS_KIND_MPMC:
		attempt_number("mpmc len", ads_mpmc_len(&arena, s->ref));
		walk_mpmc(s);
		if (arena.flags & ADS_READONLY)
			break; /* what follows helps on */
		{
			__u64 word;
			__u32 slot;

			attempt_number("mpmc find", ads_mpmc_find(&arena, s->ref, below(2) ? wild_offset() : s->ref.offset,
								  &slot, &word));
		}
		break;
	case ADS_KIND_INTRUSIVE:
		read_nodes(s);
		break;
	default:
		attempt_number("pool len", ads_collection_len(&arena, s->ref));
		walk_pool(s);
		for (i = 0; i < 3; i++) {
			__u32 object = i ? objects[below(OBJECTS)] : wild_offset();
			__u32 chunk = 0, count = 0;

			attempt_number("pool chunk", ads_pool_chunk_of(&arena, s->ref, object, &chunk, &count));
		}
	}
	attempt_within(POINTS_OF_CHECK, "structure bytes", 1,
		       ads_structure_bytes(&arena, s->kind, s->ref, below(2) ? 0 : wild_offset()));
	check_buffers();
}

/* Memory that one call may take: what it needs, not all there is. */
static void check_memory(__u64 before)
{
	__u64 after = ads_root_of(&arena)->cursor;

	if (before >= ((const struct ads_root *)(const void *)(image + ADS_ROOT_OFFSET))->cursor &&
	    after > before && after < ARENA_BYTES && after - before > BYTES_OF_CALL)
		complain("took %llu bytes", after - before);
}

static __u64 cursor_if_free(void)
{
	__u64 cursor = ads_root_of(&arena)->cursor;

	return cursor <= ARENA_BYTES - 8 && !(cursor & 7) && !*ads_at(&arena, __u64, cursor) ? cursor : 0;
}

static void write_structure(const struct structure *s)
{
	__u32 entry = 0, i;
	__u64 order = 0, before;
	long rc;

	value_of(buffers.value, draw());
	switch (s->kind) {
	case ADS_KIND_HASHMAP:
	case ADS_KIND_SET:
		for (i = 0; i < 4; i++) {
			enum ads_update_mode mode = (enum ads_update_mode)below(3);

			some_key(s);
			rc = attempt("update", ads_hashmap_update(&arena, s->ref, buffers.key, buffers.value, mode, &entry));
			check_entry(rc, s, entry);
			some_key(s);
			attempt("pop", ads_hashmap_pop(&arena, s->ref, buffers.key, below(2) ? buffers.value : 0));
		}
		if (!below(4))
			attempt("grow", ads_table_grow(&arena, s->ref.offset));
		if (s->ref.flags & ADS_GRACE)
			attempt_number("reclaim", ads_collection_reclaim(&arena, s->ref));
		break;
	case ADS_KIND_LIST:
		for (i = 0; i < 3; i++) {
			before = cursor_if_free();
			rc = attempt("push", ads_list_push(&arena, s->ref, buffers.value, &order, &entry));
			check_entry(rc, s, entry);
			if (before)
				check_memory(before);
			rc = attempt("list update", ads_list_update(&arena, s->ref, some_order(), buffers.value,
								    (enum ads_update_mode)below(3), &entry));
			check_entry(rc, s, entry);
			attempt("list pop", ads_list_pop(&arena, s->ref, some_order(), below(2) ? buffers.value : 0));
		}
		break;
	case ADS_KIND_ARRAY:
		for (i = 0; i < 4; i++) {
			rc = attempt("array find", ads_array_find(&arena, s->ref, entries_of(s), some_index(s), &entry));
			if (rc == ADS_OK && (entry & 7 || entry < ADS_LINE || (__u64)entry + s->value_size > arena.size))
				complain("returned an element at %#x", entry);
			attempt("array set",
				ads_array_set(&arena, s->ref, entries_of(s), some_index(s), buffers.value));
		}
		break;
	case ADS_KIND_INTRUSIVE:
		write_nodes(s);
		break;
	case ADS_KIND_QUEUE:
		for (i = below(20); i; i--)
			attempt("queue push", ads_queue_push(&arena, s->ref, buffers.value));
		for (i = below(20); i; i--)
			attempt("queue pop", ads_queue_pop(&arena, s->ref, buffers.value));
		break;
	case ADS_KIND_ORDEREDMAP:
		write_ordered(s);
		break;
	case ADS_KIND_RING:
		for (i = 0; i < 4; i++) {
			produce(s);
			produce_as_many(s);
			consume(s);
		}
		break;
	case ADS_KIND_MPMC:
		for (i = below(20); i; i--)
			attempt("mpmc push", ads_mpmc_push(&arena, s->ref, buffers.value));
		for (i = below(20); i; i--)
			attempt("mpmc pop", ads_mpmc_pop(&arena, s->ref, buffers.value));
		break;
	default:
		for (i = 0; i < 4; i++) {
			before = cursor_if_free();
			rc = attempt("pool alloc", ads_pool_alloc(&arena, s->ref, &entry));
			if (before)
				check_memory(before);
			if (rc == ADS_OK)
				check_entry(rc, s, entry - 16);
			if (rc == ADS_OK && below(2))
				attempt("pool free", ads_pool_free(&arena, s->ref, entry));
			attempt("pool free", ads_pool_free(&arena, s->ref, objects[below(OBJECTS)]));
			attempt("pool free", ads_pool_free(&arena, s->ref, wild_offset()));
		}
	}
	check_buffers();
}

static void check_structure(const struct structure *s, int repair)
{
	struct ads_check_report report;

	if (s->kind == ADS_KIND_QUEUE)
		return;
	attempt_within(POINTS_OF_CHECK, repair ? "repair" : "check",  0,
		       ads_collection_check(&arena, s->kind, s->ref, repair, &report));
}

/* What is of no structure: the directory's list, blocks, the registry. */
static void check_books(int repair)
{
	struct ads_check_report report;
	struct ads_heap_report heap;

	attempt_within(POINTS_OF_CHECK, repair ? "directory repair" : "directory check", 0,
		       ads_directory_check(&arena, repair, &report));
	attempt_within(POINTS_OF_CHECK, "heap check", 0, ads_heap_check(&arena, &heap));
}

static void read_directory(void)
{
	struct ads_directory_value value;
	struct ads_scan walk;
	char name[ADS_NAME_SIZE];
	volatile __u32 n;
	volatile long rc = ADS_OK;

	memset(&walk, 0, sizeof(walk));
	memset(name, 0, sizeof(name));
	for (n = 0; rc == ADS_OK && n < SCAN_LIMIT; n++)
		rc = attempt("directory next", ads_directory_next(&arena, &walk, name, &value));
	name_of("nobody", name);
	attempt("directory find", ads_directory_find(&arena, name, &value));
}

static int known_kind(__u32 kind)
{
	__u32 i;

	for (i = 0; i < STRUCTURES; i++)
		if (structures[i].kind == kind)
			return 1;
	return 0;
}

/* Open each structure by its name, as it is now, with sizes that its header claims. */
static void open_structures(int write)
{
	__u32 i;

	for (i = 0; i < STRUCTURES; i++) {
		struct ads_directory_value value;
		struct structure found = structures[i];
		const struct ads_header *h;
		char name[ADS_NAME_SIZE];
		int believe = (int)below(2);

		name_of(found.name, name);
		if (attempt("directory find", ads_directory_find(&arena, name, &value)))
			continue;
		found.kind = value.kind;
		found.ref.offset = value.offset;
		if (believe && value.offset <= ARENA_BYTES - sizeof(*h) && !(value.offset & 7)) {
			h = ads_at(&arena, struct ads_header, value.offset);
			if (ads_kind_is_hashed(found.kind)) /* the others have none to pass */
				found.ref.key_size = found.key_size = h->key_size;
			found.ref.flags = h->flags;
			found.ref.value_size = found.value_size = h->value_size;
			found.max_entries = h->max_entries;
		}
		attempt("structure open", ads_structure_open(&arena, name, structures[i].kind, &(struct ads_ref){
				0, structures[i].key_size, structures[i].value_size, structures[i].ref.flags}));
		if (attempt("structure check", ads_structure_check(&arena, found.kind, found.ref)))
			continue;
		if (found.key_size > ADS_MAX_KEY || found.value_size > ADS_MAX_VALUE || !known_kind(found.kind)) {
			complain("believes kind %u, key size %u, value size %u", found.kind, found.key_size,
				 found.value_size);
			continue;
		}
		read_structure(&found);
		check_structure(&found, 0);
		if (write)
			write_structure(&found);
	}
}

static void write_arena(void)
{
	char name[ADS_NAME_SIZE];
	struct ads_directory_value value = {ADS_KIND_LIST, structures[3].ref.offset, 0, 0};
	__u32 offset;

	attempt("alloc", ads_alloc(&arena, 1 + below(300), &offset));
	if (!below(4))
		attempt("alloc", ads_alloc(&arena, draw() >> below(64), &offset));
	if (!below(8))
		attempt("provision", ({
				int rc = ads_arena_provision(&arena, below(2) ? 4096 : draw() >> below(64));
				rc == 1 ? 0 : rc;
			}));
	if (!below(4))
		attempt("directory grow", ads_directory_grow(&arena));
	if (!below(4))
		attempt_within(POINTS_OF_CHECK, "reap", 1, ads_owner_reap(&arena, 0));
	if (!below(8))
		attempt_within(POINTS_OF_CHECK, "reclaim all", 1, ads_directory_reclaim(&arena));
	if (!below(16)) {
		name_of(structures[below(STRUCTURES)].name, name);
		attempt("remove", ads_directory_remove(&arena, name));
	}
	if (!below(4)) {
		all_dirty = 1; /* what is made here is not written through the hook */
		name_of(below(2) ? "another" : "map", name);
		attempt("directory add", ads_directory_add(&arena, name, &value));
	}
}

/* Open a file whose first page is that of the damaged image. */
static void open_file(int file)
{
	char page[ADS_PAGE_SIZE];
	struct ads_root *root = (struct ads_root *)(void *)(page + ADS_ROOT_OFFSET);
	struct ads_arena view;
	int readonly = (int)below(2);
	int fd = dup(file);
	int rc;

	memcpy(page, arena.base, sizeof(page));
	if (root->base == BASE)
		root->base = OTHER_BASE;
	if (pwrite(file, page, sizeof(page), 0) != sizeof(page))
		complain("cannot write the file");
	operation = "open";
	memset(&view, 0, sizeof(view));
	rc = ads_arena_open(&view, fd, readonly);
	if (rc == ADS_OK) {
		struct ads_directory_value value;
		char name[ADS_NAME_SIZE];

		name_of("map", name);
		point_limit = POINTS_OF_CALL;
		points = 0;
		judge(ads_directory_find(&view, name, &value), 0);
		ads_arena_close(&view);
	} else {
		close(fd);
		if (rc != -EOVERFLOW && rc != -EINVAL && rc != -EPERM) /* mmap's own */
			judge(rc, 0);
	}
}

static void run_image(int file)
{
	__u32 i, order = below(4);

	if (!below(16))
		arena.flags |= ADS_READONLY;
	damage();
	if (root_is_damaged && !(arena.flags & ADS_READONLY) && !below(2))
		open_file(file);
	attempt("root check", ads_root_check(ads_root_of(&arena), BASE, ARENA_BYTES));
	cpu = (int)below(20);
	by_user = (int)below(4);
	owner = (int)below(OWNERS);
	if (order) {
		read_directory();
		for (i = 0; i < STRUCTURES; i++)
			read_structure(&structures[i]);
	}
	if (order == 1 || order == 2) { /* what a repair does to it */
		check_books(order == 2);
		for (i = 0; i < STRUCTURES; i++)
			check_structure(&structures[i], order == 2);
	}
	if (!below(4))
		open_structures(order != 3);
	for (i = 0; i < STRUCTURES; i++)
		write_structure(&structures[below(STRUCTURES)]);
	write_arena();
	if (!below(4)) { /* on what the writers have made of it */
		for (i = 0; i < STRUCTURES; i++)
			check_structure(&structures[i], (int)below(2));
		for (i = 0; i < STRUCTURES; i++)
			read_structure(&structures[i]);
		check_books((int)below(2));
		read_directory();
	}
}

/* --- BPF programs --------------------------------------------------------------------------- */
/*
 * A BPF program checks no offset: what it loads outside of populated memory is 0, what it stores
 * there vanishes, and its loops are bounded. So on damaged memory it must come back with a code,
 * and the kernel must not complain.
 *
 * And where user space, in the same source, meets nothing that cannot be followed, both have gone
 * the same way: then their codes and answers are the same, and so is the memory afterwards.
 */
static struct program {
	const char *name;
	int (*in_user_space)(struct step *);
	volatile __u64 *handle;
	const char *structure;
	__u32 reads, operations;
	int fd;
} programs[] = {
	{"use_map", use_map, &map.handle, "map", MAP_READS, MAP_OPERATIONS, -1},
	{"use_wide", use_wide, &wide.handle, "wide", MAP_READS, MAP_OPERATIONS, -1},
	{"use_late", use_late, &late.handle, "late", MAP_READS, MAP_OPERATIONS, -1},
	{"use_set", use_set, &set.handle, "set", SET_READS, SET_OPERATIONS, -1},
	{"use_list", use_list, &list.handle, "list", LIST_READS, LIST_OPERATIONS, -1},
	{"use_queue", use_queue, &queue.handle, "queue", QUEUE_READS, QUEUE_OPERATIONS, -1},
	{"use_pool", use_pool, &pool.handle, "pool", POOL_READS, POOL_OPERATIONS, -1},
	{"use_ring", use_ring, &ring.handle, "ring", RING_READS, RING_OPERATIONS, -1},
	{"use_recorder", use_recorder, &recorder.handle, "recorder", RING_READS, RING_OPERATIONS, -1},
	{"use_mpmc", use_mpmc, &mpmc.handle, "mpmc", QUEUE_READS, QUEUE_OPERATIONS, -1},
	{"use_nodes", use_nodes, &nodes.handle, "nodes", NODES_READS, NODES_OPERATIONS, -1},
	{"use_array", use_array, &array.handle, "array", ARRAY_READS, ARRAY_OPERATIONS, -1},
};
#define PROGRAMS (sizeof(programs) / sizeof(programs[0]))
#define STEPS 16
#define BPF_PROG_TEST_RUN 10
#define NO_DAMAGE (~0ull)

/* Leading fields of union bpf_attr. */
struct test_run {
	__u32 prog_fd, retval, data_size_in, data_size_out;
	__u64 data_in, data_out;
	__u32 repeat, duration, ctx_size_in, ctx_size_out;
	__u64 ctx_in, ctx_out;
	__u32 flags, cpu, batch_size, pad;
};

static __u64 kernel_codes[256], same_steps, same_images;

static int take_program(const char *name, int fd)
{
	__u32 i;

	for (i = 0; i < PROGRAMS; i++)
		if (!strcmp(programs[i].name, name)) {
			programs[i].fd = fd;
			return 1;
		}
	return 0;
}

static const struct structure *structure_of(const struct program *p)
{
	const struct structure *s = structures;

	while (strcmp(s->name, p->structure))
		s++;
	return s;
}

static struct step some_step(const struct program *p, int reading)
{
	const struct structure *s = structure_of(p);
	struct step step = {0, 0, draw(), 0};

	step.operation = below(reading ? p->reads : p->operations);

	if (s->kind == ADS_KIND_LIST)
		step.key = some_order();
	else if (s->kind == ADS_KIND_INTRUSIVE && below(2))
		step.key = some_node_order(below(OBJECTS));
	else if (s->kind == ADS_KIND_POOL || s->kind == ADS_KIND_INTRUSIVE)
		step.key = below(2) ? objects[below(OBJECTS)] : wild_offset();
	else
		step.key = below(8) ? below(s->max_entries) : draw();
	return step;
}

static int run_in_kernel(const struct program *p, struct step *step)
{
	struct test_run run;
	int rc;

	memset(&run, 0, sizeof(run));
	run.prog_fd = (__u32)p->fd;
	run.ctx_in = (__u64)(unsigned long)step;
	run.ctx_size_in = sizeof(*step);
	rc = ads_bpf(BPF_PROG_TEST_RUN, &run, sizeof(run));
	if (rc)
		complain("could not be run: %d", rc);
	return (int)run.retval;
}

/* What was damaged or written: make the kernel's arena like `from` there. */
static void copy_dirty_to_kernel(const char *from)
{
	__u32 i;

	for (i = 0; i < dirty_count; i++)
		memcpy(kernel.base + (__u64)dirty[i] * ADS_LINE, from + (__u64)dirty[i] * ADS_LINE, ADS_LINE);
}

/* Whether all memory counts as populated, which user space could do more about than BPF can, and
 * the loops of BPF begin at 0. */
static int knows_memory(void)
{
	return ads_root_of(&arena)->populated == ARENA_BYTES && !*ads_at(&arena, __u64, ADS_ZERO_OFFSET);
}

/* Damage the image, and let the programs loose on it in the kernel and in user space. */
static void use_programs(void)
{
	int same;
	__u32 i;

	operation = "damage";
	by_user = 0; /* user space goes the way of BPF programs, which cannot die */
	damage();
	same = knows_memory();
	copy_dirty_to_kernel(arena.base);
	arena.damaged_at = NO_DAMAGE;
	for (i = 0; i < STEPS; i++) {
		const struct program *p = &programs[below(PROGRAMS)];
		struct step there = some_step(p, i < STEPS / 2), here = there;
		int kernel_rc, rc;

		operation = p->name;
		points = 0;
		kernel_rc = run_in_kernel(p, &there);
		judge(kernel_rc, 0);
		if (kernel_rc <= 0 && kernel_rc > -256)
			kernel_codes[-kernel_rc]++;
		rc = (int)attempt_within(SCAN_ENTRIES * POINTS_OF_CALL, p->name, 0, p->in_user_space(&here));
		same = same && rc != ADS_DAMAGED && arena.damaged_at == NO_DAMAGE && knows_memory();
		if (!same)
			continue;
		same_steps++;
		if (kernel_rc != rc || there.answer != here.answer)
			complain("operation %llu of %#llx, %#llx: %d, %#llx in the kernel; %d, %#llx in user space",
				 here.operation, here.key, here.value, kernel_rc, there.answer, rc, here.answer);
	}
	operation = "all programs";
	if (same && memcmp(kernel.base, arena.base, ARENA_BYTES)) {
		for (i = 0; !memcmp(kernel.base + 8 * i, arena.base + 8 * i, 8);)
			i++;
		complain("the kernel left %#llx at %#x, user space %#llx", *ads_at(&kernel, __u64, 8 * i), 8 * i,
			 *ads_at(&arena, __u64, 8 * i));
		same = 0;
	}
	same_images += (__u64)same;
	if (same)
		copy_dirty_to_kernel(image);
	else
		memcpy(kernel.base, image, ARENA_BYTES);
}

/* Both sides choose the shard by the CPU. */
static void stay_on_one_cpu(void)
{
	unsigned int now = 0;
	cpu_set_t set;

	syscall(SYS_getcpu, &now, 0, 0);
	CPU_ZERO(&set);
	CPU_SET(now, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		say("affinity", errno);
	cpu = (int)now;
}

static void self_check(void)
{
	static struct structure *s;
	struct ads_check_report report;
	struct ads_heap_report heap;

	if (attempt_within(POINTS_OF_CHECK, "check of the undamaged directory", 0,
			   ads_directory_check(&arena, 0, &report)) ||
	    report.errors || report.live != STRUCTURES)
		complain("directory: %llu names, %llu errors, the first at %#llx", report.live, report.errors,
			 report.error_at);
	if (attempt_within(POINTS_OF_CHECK, "check of the undamaged heap", 0, ads_heap_check(&arena, &heap)) ||
	    heap.errors)
		complain("heap: %llu errors, the first at %#llx", heap.errors, heap.error_at);
	/* Undamaged, every image is in order but for what the dead left. */
	for (s = structures; s < structures + STRUCTURES; s++) {
		if (s->kind == ADS_KIND_QUEUE)
			continue;
		if (attempt_within(POINTS_OF_CHECK, "check of the undamaged image", 0,
				   ads_collection_check(&arena, s->kind, s->ref, 0, &report)) ||
		    report.errors)
			complain("%s: %llu errors, the first at %#llx", s->name, report.errors, report.error_at);
		if (verbose)
			printf("image %d %s: %llu live, %llu deleted, %llu free, %llu leaked, %u shortcuts\n",
			       image_number, s->name, report.live, report.deleted, report.free, report.leaked,
			       ads_kind_is_hashed(s->kind)
				       ? 1u << ads_table_bits(ads_table_newest(&arena, s->ref.offset))
				       : 0);
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int fuzz(int count, char **words);
__attribute__((visibility("default"))) int fuzz(int count, char **words)
{
	__u64 first = 0, number = 10000, done;
	double seconds = 0, began = now();
	int file = memfd_create("fuzz", 0);
	int i, fd;

	for (i = 0; i < count; i++) {
		__u64 argument = i + 1 < count ? strtoull(words[i + 1], 0, 0) : 0;

		if (!strcmp(words[i], "--verbose")) {
			verbose = 1;
			continue;
		}
		if (!strcmp(words[i], "--count"))
			number = argument;
		else if (!strcmp(words[i], "--first"))
			first = argument;
		else if (!strcmp(words[i], "--seconds"))
			seconds = (double)argument;
		else if (!strcmp(words[i], "--arena"))
			kernel.base = (char *)(unsigned long)argument;
		else if (strlen(words[i]) < 2 || !take_program(words[i] + 2, (int)argument))
			return 2;
		i++;
	}
	ads_point_hook = on_point;
	point_limit = ~0ull;
	if (ftruncate(file, ARENA_BYTES))
		return 2;
	for (i = 0; i < IMAGES; i++) {
		fd = memfd_create("fuzz", 0);
		make_image(i, fd);
		if (i + 1 < IMAGES)
			ads_arena_close(&arena);
	}
	for (i = 0; i < (int)PROGRAMS; i++)
		*programs[i].handle = structure_of(&programs[i])->ref.offset;
	if (kernel.base)
		stay_on_one_cpu();
	guard();
	catch_signals();
	fresh = arena;
	for (done = 0; done < number && failures < MOST_FAILURES; done++) {
		int next;

		seed = first + done;
		if (seconds > 0 && done % 256 == 0 && now() - began > seconds)
			break;
		state = seed / 64 * 0x2545f4914f6cdd1dull + seed % 64;
		next = (int)(seed / 64 % IMAGES); /* changes seldom: a change costs a copy of all */
		if (next != image_number || !image) {
			image_number = next;
			image = images[next];
			all_dirty = 1;
			if (kernel.base)
				memcpy(kernel.base, image, ARENA_BYTES);
		}
		restore();
		fresh.limit = ((const struct ads_root *)(const void *)(image + ADS_ROOT_OFFSET))->populated;
		arena.limit = fresh.limit;
		if (done % 1024 == 0 || verbose) {
			if (memcmp(arena.base, image, ARENA_BYTES))
				complain("the image was not restored");
			self_check();
			restore();
		}
		if (kernel.base)
			use_programs();
		else
			run_image(file);
	}
	printf("codes:");
	for (i = 0; i < 256; i++)
		if (codes[i])
			printf(" %d: %llu", -i, codes[i]);
	printf("\nmost shared operations of one call: %llu (%s), of a check: %llu (%s)\n", most_points[0],
	       most_points_of[0], most_points[1], most_points_of[1]);
	if (kernel.base) {
		printf("codes of BPF programs:");
		for (i = 0; i < 256; i++)
			if (kernel_codes[i])
				printf(" %d: %llu", -i, kernel_codes[i]);
		printf("\nthe same as in user space: %llu steps, %llu images\n", same_steps, same_images);
	}
	printf("total: %llu images, %llu calls, %llu failures, %.0f s\n", done, calls, failures, now() - began);
	fflush(stdout);
	return failures ? 1 : 0;
}

#ifdef FUZZ_MAIN
int main(int count, char **words)
{
	return fuzz(count - 1, words + 1);
}
#endif
