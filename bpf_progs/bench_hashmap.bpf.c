/* SPDX-License-Identifier: MIT */
/*
 * bench_hashmap.bpf.c - the same loops over a hash map in the arena and over a kernel hash map of
 * the same entries. Run by `python -m arenads bench`, which makes both maps: how many entries they
 * have is decided there, how large those are here.
 */
#include "bench.h"

#ifndef KEY_SIZE
#define KEY_SIZE 8
#endif
#ifndef VALUE_SIZE
#define VALUE_SIZE 8
#endif

struct key {
	__u64 word[KEY_SIZE / 8];
};

struct value {
	__u64 word[VALUE_SIZE / 8];
};

ADS_HASHMAP(map, struct key, struct value, 1024);

struct {
	__uint(type, 1); /* BPF_MAP_TYPE_HASH */
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, struct value);
} peer SEC(".maps");

BENCH_FRESH(struct value);

static __always_inline void make_key(struct key *key, __u32 number)
{
	__u32 i;

	for (i = 0; i < KEY_SIZE / 8; i++)
		key->word[i] = number + i;
}

#define LOOP(name, body) BENCH_LOOP(name, struct key key; make_key(&key, number); body)

LOOP(empty, { sum += key.word[0]; })
LOOP(ours_lookup_hit, {
	struct value __arena *value = map_lookup(&key);
	if (value)
		sum += value->word[0];
})
LOOP(peer_lookup_hit, {
	struct value *value = bpf_map_lookup_elem(&peer, &key);
	if (value)
		sum += value->word[0];
})

/* No such key. */
#define LOOP_ABSENT(name, body) LOOP(name, key.word[0] |= BENCH_ABSENT; body)

LOOP_ABSENT(empty_lookup_miss, { sum += !key.word[0]; })
LOOP_ABSENT(ours_lookup_miss, { sum += !!map_lookup(&key); })
LOOP_ABSENT(peer_lookup_miss, { sum += !!bpf_map_lookup_elem(&peer, &key); })

/* A counter. */
LOOP(ours_update_in_place, {
	struct value __arena *value = map_lookup(&key);
	if (value)
		sum += ads_add(&value->word[0], zero);
})
LOOP(peer_update_in_place, {
	struct value *value = bpf_map_lookup_elem(&peer, &key);
	if (value)
		sum += __sync_fetch_and_add(&value->word[0], zero);
})

/* Store whole values: of keys that are there, that are not, and delete. */
#define LOOP_VALUE(name, body)                                                 \
	LOOP(name, struct value *value = bench_fresh(); value->word[0] = number; body)
#define EXISTING 2 /* BPF_EXIST */
#define INSERT_OURS                                                            \
	struct key key;                                                        \
	struct value *value = bench_fresh();                                   \
	make_key(&key, number);                                                \
	value->word[0] = number;                                               \
	sum += !map_insert(&key, value);
#define INSERT_PEER                                                            \
	struct key key;                                                        \
	struct value *value = bench_fresh();                                   \
	make_key(&key, number);                                                \
	value->word[0] = number;                                               \
	sum += !bpf_map_update_elem(&peer, &key, value, 1 /* BPF_NOEXIST */);
#define DELETE_OURS                                                            \
	struct key key;                                                        \
	make_key(&key, number);                                                \
	sum += !map_delete(&key);
#define DELETE_PEER                                                            \
	struct key key;                                                        \
	make_key(&key, number);                                                \
	sum += !bpf_map_delete_elem(&peer, &key);
#define NEITHER                                                                \
	struct key key;                                                        \
	make_key(&key, number);                                                \
	sum += key.word[0];

LOOP_VALUE(empty_replace, { sum += value->word[0]; })
LOOP_VALUE(ours_replace, { sum += !map_replace(&key, value); })
LOOP_VALUE(peer_replace, { sum += !bpf_map_update_elem(&peer, &key, value, EXISTING); })

BENCH_LOOP(ours_fill, { INSERT_OURS })
BENCH_LOOP(peer_fill, { INSERT_PEER })
BENCH_LOOP(ours_clear, { DELETE_OURS })
BENCH_LOOP(peer_clear, { DELETE_PEER })
BENCH_TURNS(empty_turns, NEITHER, 0, NEITHER, 2)
BENCH_TURNS(ours_insert_turns, INSERT_OURS, 0, DELETE_OURS, 2)
BENCH_TURNS(peer_insert_turns, INSERT_PEER, 0, DELETE_PEER, 2)
BENCH_TURNS(ours_delete_turns, DELETE_OURS, 2, INSERT_OURS, 0)
BENCH_TURNS(peer_delete_turns, DELETE_PEER, 2, INSERT_PEER, 0)

/* Whole passes, in whatever order; `operations` are entries. All of them are done, or none. */
static __always_inline int passed(struct bench_run *run, __u64 start, __u64 sum, int all)
{
	run->nanoseconds = all ? bpf_ktime_get_ns() - start : 0;
	run->operations = all ? run->operations : 0;
	run->start = start;
	run->sum = all ? sum : 0;
	return ADS_OK;
}

SEC("syscall") int ours_iterate(struct bench_run *run)
{
	struct map_cursor cursor = {};
	struct value *value = bench_fresh();
	__u64 start, done = ads_unknown_zero(), sum = 0;
	int rc;

	start = bench_begin(run);
	while (done < run->operations && ads_may_loop()) {
		rc = map_next(&cursor, value);
		if (rc == ADS_ABSENT) {
			struct map_cursor again = {};

			cursor = again;
			continue;
		}
		if (rc && rc != ADS_BUDGET)
			return rc;
		if (!rc) {
			sum += value->word[0];
			done++;
		}
	}
	return passed(run, start, sum, done >= run->operations);
}

static long (*const for_each_map_elem)(void *map, void *callback, void *context, __u64 flags) = (void *)164;

struct visit {
	__u64 sum;
	__u64 left;
};

static long visit(void *map, const struct key *key, struct value *value, struct visit *visit)
{
	/* A copy, as on our side. */
	struct value *copy = bench_fresh();

	*copy = *value;
	visit->sum += copy->word[0];
	visit->left--;
	return !visit->left;
}

SEC("syscall") int peer_iterate(struct bench_run *run)
{
	struct visit state = {0, run->operations};
	__u64 start;

	(void)ads_here();
	start = bench_begin(run);
	while (state.left && ads_may_loop())
		for_each_map_elem(&peer, visit, &state, 0);
	return passed(run, start, state.sum, !state.left);
}

char LICENSE[] SEC("license") = "GPL";
