/* SPDX-License-Identifier: MIT */
/*
 * orders.bpf.c - each operation of atomic.h in a function of its own, and the operations of the
 * structures that publish, take and check. For tests that look at the instructions.
 */
#include <arenads/bpf.h>

#if ADS_BPF
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED
#endif

struct pair {
	__u64 first;
	__u64 second;
};

ADS_ARENA(16 * ADS_MIB);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u32 offset; /* of the words, or of the structure */
	__u32 pad;
	__u64 key;
	__u64 first;
	__u64 second;
};

#define WORDS(step) ads_at(ads_here(), __u64, (step)->offset)
#define REF(step, bytes) {.offset = (step)->offset, .key_size = (bytes), .value_size = sizeof(struct pair)}

/* --- atomic.h: words[0] is shared, words[1] is what it publishes ------------------------------ */

SEC("syscall") int load_acquire(struct step *step)
{
	const __u64 __arena *words = WORDS(step);

	step->first = ads_load_acquire(words);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int store_release(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	ads_store_release(words, step->first);
	return 0;
}

SEC("syscall") int fence_acquire(struct step *step)
{
	const __u64 __arena *words = WORDS(step);

	step->second = ads_load(words + 1);
	ads_fence_acquire();
	step->first = ads_load(words);
	return 0;
}

SEC("syscall") int cas(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	step->key = ads_cas(words, step->key, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int cas_dropped(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	ads_cas(words, step->key, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int add(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	step->key = ads_add(words, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int add_dropped(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	ads_add(words, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int xchg(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	step->key = ads_xchg(words, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

SEC("syscall") int xchg_dropped(struct step *step)
{
	__u64 __arena *words = WORDS(step);

	ads_store(words + 1, step->second);
	ads_xchg(words, step->first);
	step->second = ads_load(words + 1);
	return 0;
}

/* --- structures -------------------------------------------------------------------------------- */

SEC("syscall") int block_alloc(struct step *step)
{
	return ads_alloc(ads_here(), 100, &step->offset);
}

SEC("syscall") int pool_alloc(struct step *step)
{
	struct ads_ref ref = REF(step, 0);
	__u32 object = 0;
	int rc = ads_pool_alloc(ads_here(), ref, &object);

	step->key = object;
	return rc;
}

SEC("syscall") int pool_free(struct step *step)
{
	struct ads_ref ref = REF(step, 0);

	return ads_pool_free(ads_here(), ref, (__u32)step->key);
}

SEC("syscall") int queue_push(struct step *step)
{
	struct ads_ref ref = REF(step, 0);
	struct pair pair = {step->first, step->second};

	return ads_queue_push(ads_here(), ref, &pair);
}

SEC("syscall") int queue_pop(struct step *step)
{
	struct ads_ref ref = REF(step, 0);
	struct pair pair = {};
	int rc = ads_queue_pop(ads_here(), ref, &pair);

	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

SEC("syscall") int map_get(struct step *step)
{
	struct ads_ref ref = REF(step, sizeof(__u64));
	struct pair pair = {};
	__u64 key = step->key;
	int rc = ads_hashmap_get(ads_here(), ref, &key, &pair);

	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

SEC("syscall") int map_update(struct step *step)
{
	struct ads_ref ref = REF(step, sizeof(__u64));
	struct pair pair = {step->first, step->second};
	__u64 key = step->key;
	__u32 entry;

	return ads_hashmap_update(ads_here(), ref, &key, &pair, ADS_ANY, &entry);
}

SEC("syscall") int map_delete(struct step *step)
{
	struct ads_ref ref = REF(step, sizeof(__u64));
	__u64 key = step->key;

	return ads_hashmap_delete(ads_here(), ref, &key);
}

/* An ordered map's keys are 64-bit integers, which are their order. */
#define ORDERED(at) {.offset = (at), .value_size = sizeof(struct pair), .flags = ADS_LIVES}

SEC("syscall") int ordered_get(struct step *step)
{
	struct ads_ref ref = ORDERED(step->offset);
	struct pair pair = {};
	int rc = ads_orderedmap_get(ads_here(), ref, ads_orderedmap_seek_integer, step->key, 0, &pair);

	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

SEC("syscall") int ordered_update(struct step *step)
{
	struct ads_ref ref = ORDERED(step->offset);
	struct pair pair = {step->first, step->second};
	struct ads_walk w = ads_walk_from(0);
	int rc = ads_orderedmap_store(ads_here(), ref, ads_orderedmap_seek_integer, step->key, 0, &pair, ADS_ANY, &w);

	if (!rc)
		ads_orderedmap_build(ads_here(), ref, ads_orderedmap_raise_integer, step->key, 0, &w);
	return rc;
}

SEC("syscall") int ordered_delete(struct step *step)
{
	struct ads_ref ref = ORDERED(step->offset);

	return ads_orderedmap_pop(ads_here(), ref, ads_orderedmap_seek_integer, step->key, 0, 0);
}

SEC("syscall") int ordered_lower_bound(struct step *step)
{
	struct ads_ref ref = ORDERED(step->offset);
	struct ads_scan scan = {};
	struct pair pair = {};
	__u32 entry;
	int rc = ads_orderedmap_scan_from(ads_here(), ref, ads_orderedmap_seek_integer, &scan, step->key, 0, 0);

	if (!rc)
		rc = ads_orderedmap_next(ads_here(), ref, ads_orderedmap_seek_integer, &scan, 0, 0, &pair, &entry);
	step->key = scan.hash;
	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

SEC("syscall") int ordered_pop_first(struct step *step)
{
	struct ads_ref ref = ORDERED(step->offset);
	struct pair pair = {};
	__u64 order = 0;
	int rc = ads_orderedmap_pop_first(ads_here(), ref, ads_orderedmap_seek_integer, &order, 0, &pair);

	step->key = order;
	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

SEC("syscall") int mpmc_push(struct step *step)
{
	struct ads_ref ref = {.offset = step->offset, .value_size = sizeof(struct pair)};
	struct pair pair = {step->first, step->second};

	return ads_mpmc_push(ads_here(), ref, &pair);
}

SEC("syscall") int mpmc_pop(struct step *step)
{
	struct ads_ref ref = {.offset = step->offset, .value_size = sizeof(struct pair)};
	struct pair pair = {};
	int rc = ads_mpmc_pop(ads_here(), ref, &pair);

	step->first = pair.first;
	step->second = pair.second;
	return rc;
}

/* A ring's records are pairs; step->key: its flags. */
#define RING(step) {.offset = (step)->offset, .flags = (__u32)(step)->key}

SEC("syscall") int ring_push(struct step *step)
{
	struct ads_ref ref = RING(step);
	struct pair pair = {step->first, step->second};

	return ads_ring_push(ads_here(), ref, &pair, sizeof(pair));
}

/* All of the rings are one. */
SEC("syscall") int rings_push(struct step *step)
{
	struct pair pair = {step->first, step->second};
	__u32 each[ADS_RINGS_MOST], i;

	UNROLLED for (i = 0; i < ADS_RINGS_MOST; i++)
		each[i] = (__u32)step->offset;
	return ads_rings_push(ads_here(), each, 0, &pair, sizeof(pair));
}

SEC("syscall") int ring_pop(struct step *step)
{
	struct ads_ref ref = RING(step);
	struct pair pair = {};
	__u32 length = 0;
	int rc = ads_ring_pop(ads_here(), ref, &pair, sizeof(pair), &length);

	step->first = pair.first;
	step->second = pair.second;
	return rc;
}
