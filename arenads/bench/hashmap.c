/* SPDX-License-Identifier: MIT */
/*
 * hashmap.c - a hash map in the arena from user space, and a kernel hash map of the same entries
 * through bpf(), one by one and in batches. Compiled for each size of keys and values.
 */
#include "loops.h"

#ifndef KEY_SIZE
#define KEY_SIZE 8
#endif
#ifndef VALUE_SIZE
#define VALUE_SIZE 8
#endif
#define BATCH 1024 /* keys in one system call */

struct key {
	__u64 word[KEY_SIZE / 8];
};

struct value {
	__u64 word[VALUE_SIZE / 8];
};

static inline void make_key(struct key *key, __u32 number)
{
	__u32 i;

	for (i = 0; i < KEY_SIZE / 8; i++)
		key->word[i] = number + i;
}

static inline struct ads_ref map(const struct bench_target *to)
{
	struct ads_ref ref = {to->structure, KEY_SIZE, VALUE_SIZE, 0};

	return ref;
}

#define LOOP(name, body)                                                       \
	BENCH_LOOP(                                                            \
		name, struct key key; struct value value = {{0}}; make_key(&key, number); value.word[0] = number; \
		(void)value; body)

/* --- one after the other ------------------------------------------------------------------------ */

LOOP(empty, {
	__asm__ volatile("" ::"r"(&key), "r"(&value) : "memory");
	sum += value.word[0];
})
LOOP(ours_lookup_hit, {
	if (!ads_hashmap_get(to->arena, map(to), &key, &value))
		sum += value.word[0];
})
LOOP(peer_lookup_hit, {
	if (!bench_element(BENCH_LOOKUP, to->fd, &key, &value, 0))
		sum += value.word[0];
})
LOOP(ours_lookup_miss, {
	key.word[0] |= BENCH_ABSENT;
	sum += ads_hashmap_get(to->arena, map(to), &key, &value) == ADS_ABSENT;
})
LOOP(peer_lookup_miss, {
	key.word[0] |= BENCH_ABSENT;
	sum += bench_element(BENCH_LOOKUP, to->fd, &key, &value, 0) == -ENOENT;
})
/* A counter: there is no such thing by bpf(), where a new value takes a lookup and an update. */
LOOP(ours_update_in_place, {
	__u32 entry;
	if (!ads_hashmap_find(to->arena, map(to), &key, &entry))
		sum += ads_add(ads_at(to->arena, __u64, entry + ads_entry_value_offset(map(to))), 0);
})
LOOP(peer_update_in_place, {
	if (!bench_element(BENCH_LOOKUP, to->fd, &key, &value, 0)) {
		sum += value.word[0];
		if (bench_element(BENCH_UPDATE, to->fd, &key, &value, BENCH_EXISTING))
			return -EIO;
	}
})
LOOP(ours_replace, {
	__u32 entry;
	sum += !ads_hashmap_update(to->arena, map(to), &key, &value, ADS_REPLACE, &entry);
})
LOOP(peer_replace, { sum += !bench_element(BENCH_UPDATE, to->fd, &key, &value, BENCH_EXISTING); })
LOOP(ours_fill, {
	__u32 entry;
	sum += !ads_hashmap_update(to->arena, map(to), &key, &value, ADS_INSERT, &entry);
})
LOOP(peer_fill, { sum += !bench_element(BENCH_UPDATE, to->fd, &key, &value, BENCH_NEW); })
LOOP(ours_clear, { sum += !ads_hashmap_delete(to->arena, map(to), &key); })
LOOP(peer_clear, { sum += !bench_element(BENCH_DELETE, to->fd, &key, 0, 0); })

/* --- portions, one by one and in batches -------------------------------------------------------- */

#define SOME(name, body)                                                       \
	static __u64 name(struct bench_target *to, struct bench_run *run, __u32 at) \
	{                                                                      \
		struct bench_run part = *run;                                  \
		part.operations = run->portion;                                \
		part.position = at;                                            \
		body(to, &part);                                               \
		return part.sum;                                               \
	}

SOME(some_empty, empty)
SOME(some_ours_insert, ours_fill)
SOME(some_peer_insert, peer_fill)
SOME(some_ours_delete, ours_clear)
SOME(some_peer_delete, peer_clear)
BENCH_TURNS(empty_turns, some_empty, 0, some_empty, 2)
BENCH_TURNS(ours_insert_turns, some_ours_insert, 0, some_ours_delete, 2)
BENCH_TURNS(peer_insert_turns, some_peer_insert, 0, some_peer_delete, 2)
BENCH_TURNS(ours_delete_turns, some_ours_delete, 2, some_ours_insert, 0)
BENCH_TURNS(peer_delete_turns, some_peer_delete, 2, some_peer_insert, 0)

/* One batch command for `operations` numbers from `at` on; how many were done. Batches know no modes:
 * what is updated is stored, whether it was there or not. */
static __u64 in_batches(int command, struct bench_target *to, const struct bench_run *run, __u32 at, __u64 operations)
{
	static __thread struct key keys[BATCH];
	static __thread struct value values[BATCH];
	__u64 done = 0;

	while (done < operations) {
		__u32 count = operations - done < BATCH ? (__u32)(operations - done) : BATCH;
		__u32 i;

		for (i = 0; i < count; i++) {
			make_key(&keys[i], run->order[at]);
			values[i].word[0] = run->order[at];
			at = bench_wrap(run, at + 1);
		}
		if (bench_batch(command, to->fd, 0, 0, keys, values, &count))
			return done + count;
		done += count;
	}
	return done;
}

static __u64 some_batch_insert(struct bench_target *to, struct bench_run *run, __u32 at)
{
	return in_batches(BENCH_UPDATE_BATCH, to, run, at, run->portion);
}

static __u64 some_batch_delete(struct bench_target *to, struct bench_run *run, __u32 at)
{
	return in_batches(BENCH_DELETE_BATCH, to, run, at, run->portion);
}

BENCH_TURNS(batch_insert_turns, some_batch_insert, 0, some_batch_delete, 2)
BENCH_TURNS(batch_delete_turns, some_batch_delete, 2, some_batch_insert, 0)

int batch_replace(struct bench_target *to, struct bench_run *run)
{
	__u64 start = bench_now();

	run->sum = in_batches(BENCH_UPDATE_BATCH, to, run, run->position, run->operations);
	run->nanoseconds = bench_now() - start;
	run->position = (__u32)((run->position + run->operations) % run->length);
	return 0;
}

/* --- keys and values, in whatever order; each run goes on where the last one stopped ------------ */

struct ours_place {
	struct ads_scan scan;
	struct key last;
	__u64 started;
};

struct peer_place {
	struct key last;
	__u64 started;
};

struct batch_place {
	__u32 next, started;
};

ADS_STATIC_ASSERT(sizeof(struct ours_place) <= sizeof(((struct bench_target *)0)->ours), "there is room for it");

int ours_iterate(struct bench_target *to, struct bench_run *run)
{
	struct ours_place *place = (struct ours_place *)to->ours;
	struct key key;
	struct value value;
	__u64 done = 0, sum = 0, start = bench_now();
	__u32 entry;
	int rc = 0;

	while (done < run->operations) {
		if (!place->started)
			rc = ads_hashmap_scan(to->arena, map(to), &place->scan);
		if (!rc)
			rc = ads_scan_next(to->arena, &place->scan, map(to), &place->last, &key, &value, &entry);
		if (rc && (rc != ADS_ABSENT || !place->started))
			return rc;
		place->started = !rc;
		if (!rc) {
			place->last = key;
			sum += value.word[0];
			done++;
		}
		rc = 0;
	}
	run->nanoseconds = bench_now() - start;
	run->sum = sum;
	return 0;
}

int peer_iterate(struct bench_target *to, struct bench_run *run)
{
	struct peer_place *place = (struct peer_place *)to->peer;
	struct key next;
	struct value value;
	__u64 done = 0, sum = 0, start = bench_now();

	while (done < run->operations) {
		int rc = bench_element(BENCH_NEXT, to->fd, place->started ? &place->last : 0, &next, 0);

		if (rc && (rc != -ENOENT || !place->started))
			return rc;
		place->started = !rc;
		if (rc)
			continue;
		place->last = next;
		rc = bench_element(BENCH_LOOKUP, to->fd, &next, &value, 0);
		if (rc)
			return rc;
		sum += value.word[0];
		done++;
	}
	run->nanoseconds = bench_now() - start;
	run->sum = sum;
	return 0;
}

int batch_iterate(struct bench_target *to, struct bench_run *run)
{
	static __thread struct key keys[BATCH];
	static __thread struct value values[BATCH];
	struct batch_place *place = (struct batch_place *)to->batch;
	__u64 done = 0, sum = 0, start = bench_now();
	__u32 i;

	while (done < run->operations) {
		__u32 count = BATCH;
		int rc = bench_batch(BENCH_LOOKUP_BATCH, to->fd, place->started ? &place->next : 0, &place->next, keys,
				     values, &count);

		if (rc && (rc != -ENOENT || (!place->started && !count)))
			return rc;
		place->started = !rc;
		for (i = 0; i < count; i++)
			sum += values[i].word[0];
		done += count;
	}
	/* The last batch may have brought more than was asked for. */
	run->nanoseconds = (bench_now() - start) * run->operations / done;
	run->sum = sum;
	return 0;
}

/* --- all of it, into memory --- */

typedef struct {
	struct key key;
	struct value value;
} record;

/* Read all of the map; what the values add up to. The records' memory was touched before. */
static int sweep(struct bench_target *to, record *records, __u64 room, __u64 *sum)
{
	struct ads_sweep lanes;
	__u64 done = 0, end;
	__s64 rc = ads_hashmap_sweep(to->arena, map(to), &lanes);

	if (rc)
		return (int)rc;
	while (done < room) {
		rc = ads_hashmap_sweep_next(to->arena, map(to), &lanes, records, done, room - done);
		if (rc <= 0)
			return rc ? (int)rc : ADS_ABSENT;
		for (end = done + (__u64)rc; done < end; done++)
			*sum += records[done].value.word[0];
	}
	return 0;
}

/* So many sweeps that they are run->operations records: a map has as many as the order is long. */
int ours_sweep(struct bench_target *to, struct bench_run *run)
{
	static record *records;
	static __u64 room;
	__u64 done, sum = 0, start;
	int rc = 0;

	if (room < run->length) {
		free(records);
		room = run->length;
		records = malloc(room * sizeof(*records));
		if (!records)
			return -ENOMEM;
		memset(records, 1, room * sizeof(*records));
	}
	start = bench_now();
	for (done = 0; !rc && done < run->operations; done += run->length)
		rc = sweep(to, records, run->length, &sum);
	run->nanoseconds = bench_now() - start;
	run->sum = sum;
	return rc;
}

int batch_sweep(struct bench_target *to, struct bench_run *run)
{
	return batch_iterate(to, run);
}

/* --- all of it, out of the map --- */

/* Who takes an entry has its value: run->operations are as many as there are. */
int ours_drain(struct bench_target *to, struct bench_run *run)
{
	struct key key, last = {{0}};
	struct value value = {{0}};
	struct ads_scan scan;
	__u64 done = 0, sum = 0, start = bench_now();
	__u32 entry;
	int rc = ads_hashmap_scan(to->arena, map(to), &scan);

	while (!rc) {
		rc = ads_scan_next(to->arena, &scan, map(to), &last, &key, 0, &entry);
		if (rc)
			break;
		last = key;
		if (!ads_hashmap_pop(to->arena, map(to), &key, &value)) {
			sum += value.word[0];
			done++;
		}
	}
	run->nanoseconds = bench_now() - start;
	run->sum = sum;
	return rc != ADS_ABSENT ? rc : done == run->operations ? 0 : -ENODATA;
}

int batch_drain(struct bench_target *to, struct bench_run *run)
{
	static __thread struct key keys[BATCH];
	static __thread struct value values[BATCH];
	__u64 done = 0, sum = 0, start = bench_now();
	__u32 next, i;
	int rc = 0;

	while (!rc) {
		__u32 count = BATCH;

		rc = bench_batch(BENCH_LOOKUP_AND_DELETE_BATCH, to->fd, done ? &next : 0, &next, keys, values, &count);
		if (rc && rc != -ENOENT)
			return rc;
		for (i = 0; i < count; i++)
			sum += values[i].word[0];
		done += count;
	}
	run->nanoseconds = bench_now() - start;
	run->sum = sum;
	return done == run->operations ? 0 : -ENODATA;
}

/* --- beside a program --------------------------------------------------------------------------- */

void accompany(struct bench_neighbour *neighbour, struct bench_target *to, struct bench_run *run, __u64 interval)
{
	static const bench_function functions[] = {ours_lookup_hit, peer_lookup_hit, ours_replace, peer_replace};

	bench_accompany(neighbour, functions, to, run, interval);
}
