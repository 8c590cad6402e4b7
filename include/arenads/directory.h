/* SPDX-License-Identifier: MIT */
/*
 * directory.h - create structures, and find them by name. User space only: BPF programs
 * get their structures' places from the loader.
 *
 * The directory is a list (list.h) whose entries have a name as key, ordered by a hash of
 * it, and a struct ads_directory_value. Its offset stands in the root, put there by one
 * CAS. So two processes may create at the same time, and of two that create the same
 * name one wins and the other gets ADS_EXISTS.
 *
 * Death: a structure that was made but not named is a leaked block, nothing else.
 */
#ifndef ARENADS_DIRECTORY_H
#define ARENADS_DIRECTORY_H

#include "array.h"
#include "hashmap.h"
#include "intrusive.h"
#include "mpmc.h"
#include "orderedmap.h"
#include "queue.h"
#include "reclaim.h"
#include "ring.h"

#if !ADS_BPF

#define ADS_DIRECTORY_ENTRIES 1024u
#define ADS_FIRST_ENTRIES 32u /* a hash map begins with shortcuts for so many */
#define ADS_DIRECTORY_SEED 0x6469726563746f72ull /* names are ours, not an attacker's */

#ifndef ads_random /* a test may want the same each time */
static inline __u64 ads_random(void)
{
	__u64 value = 0;

	if (syscall(SYS_getrandom, &value, sizeof(value), 0) != (long)sizeof(value))
		value = (__u64)getpid() * 0x9e3779b97f4a7c15ull;
	return value;
}
#endif

/* log2 of the shortcuts that hold `entries` in half-filled buckets. */
static inline __u32 ads_table_bits_for(__u64 entries)
{
	__u32 bits = 1;

	while (bits < 28 && (1ull << bits) < 2 * entries)
		bits++;
	return bits;
}

/* log2 of the hints for `entries`: at least a line. */
static inline __u32 ads_hint_bits(__u64 entries)
{
	__u32 bits = ads_table_bits_for(entries);

	return bits < 3 ? 3 : bits;
}

/* Link the shortcuts of a first table one to the next. */
static inline void ads_table_format(struct ads_arena *a, __u32 table, __u32 bits)
{
	__u32 links = table + (__u32)sizeof(struct ads_table);
	__u32 i;

	for (i = 0; i + 1 < 1u << bits; i++)
		ads_store(ads_at(a, __u64, links + 8 * i), (links + 8 * (i + 1)) | ADS_LINK_TAG);
	ads_store(ads_at(a, __u64, links + 8 * i), ADS_LINK_END);
}

#ifndef ads_shards_used /* a test has its own CPUs */
/* Shards that this machine's CPUs use. */
static inline __u32 ads_shards_used(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	return cpus < 1 ? 1 : cpus < ADS_SHARDS ? (__u32)cpus : ADS_SHARDS;
}
#endif

/* Fill the spare shard, and then the places for spare entries in those of the CPUs; the structure is
 * still private. With too little memory it gets fewer, and replacing in a full map may have to
 * wait for an entry. */
static inline void ads_pool_fill_spares(struct ads_arena *a, struct ads_ref ref, __u32 spares)
{
	struct ads_pool *p = &ads_collection_of(a, ref)->pool;
	struct ads_pool_ref pool = ads_pool_of(ref);
	/* What is replaced has to wait for a grace period: it is no shard's. */
	__u32 own = spares && !p->grace ? ads_shards_used() : 0;
	__u32 entries[ADS_SPARES + ADS_SHARDS];
	__u32 taken = 0;

	p->capacity += own;
	while (taken < spares + own && !ads_pool_take(a, pool, 0, &entries[taken]))
		taken++;
	p->capacity -= spares + own - taken;
	p->spares = taken < spares ? taken : spares;
	p->own_spares = taken - p->spares;
	while (taken > p->spares) {
		__u32 shard = --taken - p->spares;

		ads_spare_give(a, pool, ads_shard_place(pool, shard), entries[taken]);
	}
	ads_hand_clear(a);
	p->shards[ADS_SHARD_SPARES].enough = ~0ull; /* no top: they are to come */
	while (taken)
		ads_pool_give(a, pool, entries[--taken]);
	p->shards[ADS_SHARD_SPARES].enough = p->shards[ADS_SHARD_SPARES].free;
}

/* Write header and pool of a structure that nobody else knows yet; its memory is zero. */
static inline struct ads_collection *ads_collection_format(struct ads_arena *a, __u32 kind, struct ads_ref ref,
							   __u32 max_entries, __u32 spares)
{
	struct ads_collection *c = ads_collection_of(a, ref);

	c->header.kind = kind;
	c->header.key_size = ref.key_size;
	c->header.value_size = ref.value_size;
	c->header.flags = ref.flags;
	c->header.max_entries = max_entries;
	c->header.seed = ads_random();
	c->header.table = ads_list_head(ref);
	c->head = ADS_LINK_END;
	c->pool.stride = ads_entry_stride(ref);
	c->pool.capacity = max_entries + spares;
	c->pool.grace = !!(ref.flags & ADS_GRACE);
	return c;
}

/*
 * Create a hash map or set that begins with shortcuts for `first` entries and grows up to those for
 * max_entries; first = max_entries: it never grows. See ads_collection_create().
 */
static inline int ads_hashmap_create(struct ads_arena *a, __u32 kind, struct ads_ref *ref, __u32 max_entries,
				     __u32 first)
{
	__u32 bits = ads_table_bits_for(first < max_entries ? first : max_entries);
	__u64 table_bytes = ads_kind_is_hashed(kind) ? sizeof(struct ads_table) + (8ull << bits) : 0;
	__u32 spares = kind == ADS_KIND_POOL ? 0 : ADS_SPARES;
	struct ads_collection *c;
	int rc;

	if (!max_entries || max_entries > (1u << 31) || ref->value_size > ADS_MAX_VALUE ||
	    ref->key_size > ADS_MAX_KEY || (ads_kind_is_hashed(kind) && (!ref->key_size || !first)) ||
	    (kind == ADS_KIND_SET && ref->value_size) || ref->flags & ~(__u32)ADS_GRACE ||
	    (ref->flags && !ads_kind_is_hashed(kind)))
		return ADS_INVALID;
	/* One block for all, so that a refusal leaves nothing behind. */
	rc = ads_alloc(a, sizeof(struct ads_collection) + table_bytes, &ref->offset);
	if (rc)
		return rc;
	c = ads_collection_format(a, kind, *ref, max_entries, spares);
	if (ads_kind_is_hashed(kind)) {
		__u32 table = ref->offset + (__u32)sizeof(struct ads_collection);

		ads_table_format(a, table, bits);
		c->header.table = ((__u64)(64 - bits) << 32) | table;
		c->header.first = table + (__u32)sizeof(struct ads_table);
		c->header.most = ads_table_bits_for(max_entries);
	}
	ads_pool_fill_spares(a, *ref, spares);
	return ADS_OK;
}

/*
 * Create a hash map (small at first), list or pool of objects; ref->offset becomes its
 * place. Nobody else knows it before it has a name. ADS_INVALID: a size or count out of
 * range.
 */
static inline int ads_collection_create(struct ads_arena *a, __u32 kind, struct ads_ref *ref, __u32 max_entries)
{
	return ads_hashmap_create(a, kind, ref, max_entries, ADS_FIRST_ENTRIES);
}

/*
 * Create an ordered map. ref->flags says what its keys are: ADS_BYTES, of ref->key_size bytes, else integers,
 * with ADS_SIGNED signed ones, and ref->key_size is 0. ADS_GRACE as for a hash map.
 */
static inline int ads_orderedmap_create(struct ads_arena *a, struct ads_ref *ref, __u32 max_entries)
{
	struct ads_orderedmap *map;
	struct ads_ref index;
	__u32 level;
	int rc;

	__u32 first = max_entries < ADS_FIRST_ENTRIES ? max_entries : ADS_FIRST_ENTRIES;
	__u32 bits = ads_hint_bits(first), table;

	ref->flags |= ADS_LIVES;
	if (!max_entries || max_entries > (1u << 31) || ref->value_size > ADS_MAX_VALUE || ref->key_size > ADS_MAX_KEY ||
	    ref->flags & ~(__u32)(ADS_GRACE | ADS_SIGNED | ADS_BYTES | ADS_LIVES) ||
	    !(ref->flags & ADS_BYTES) != !ref->key_size || (ref->flags & ADS_BYTES && ref->flags & ADS_SIGNED))
		return ADS_INVALID;
	rc = ads_alloc(a, sizeof(struct ads_orderedmap) + sizeof(struct ads_table) + (8ull << bits), &ref->offset);
	if (rc)
		return rc;
	map = ads_at(a, struct ads_orderedmap, ref->offset);
	index = ads_orderedmap_index(*ref);
	ads_collection_format(a, ADS_KIND_ORDEREDMAP, *ref, max_entries, ADS_SPARES);
	ads_collection_format(a, ADS_KIND_INDEX, index, max_entries, 0);
	map->index.header.first = ref->offset; /* whose towers they are */
	table = ref->offset + (__u32)sizeof(struct ads_orderedmap);
	map->data.header.table = ((__u64)(64 - bits) << 32) | table;
	map->data.header.most = ads_hint_bits(max_entries);
	for (level = 0; level <= ADS_LEVELS; level++)
		map->heads[level] = ADS_LINK_END;
	ads_pool_fill_spares(a, *ref, ADS_SPARES);
	return ADS_OK;
}

/* Create a queue; `slots` is rounded up to a power of two. */
static inline int ads_queue_create(struct ads_arena *a, struct ads_ref *ref, __u32 slots)
{
	struct ads_queue *ring;
	__u32 bits = 0;
	int rc;

	if (!slots || slots > (1u << 31) || !ref->value_size || ref->value_size > ADS_MAX_VALUE || ref->key_size)
		return ADS_INVALID;
	while ((1u << bits) < slots)
		bits++;
	if ((__u64)ads_round_up(ref->value_size, 8) << bits >= a->size) {
		a->damaged_at = (__u64)ads_round_up(ref->value_size, 8) << bits;
		return ADS_NO_MEMORY;
	}
	rc = ads_alloc(a, sizeof(struct ads_queue) + ((__u64)ads_round_up(ref->value_size, 8) << bits), &ref->offset);
	if (rc)
		return rc;
	ring = ads_at(a, struct ads_queue, ref->offset);
	ring->header.kind = ADS_KIND_QUEUE;
	ring->header.value_size = ref->value_size;
	ring->header.max_entries = 1u << bits;
	ring->header.table = ref->offset + (__u32)sizeof(struct ads_queue);
	return ADS_OK;
}

/* Create an array: its header and the words of its chunks; chunks come later. */
static inline int ads_array_create(struct ads_arena *a, struct ads_ref *ref, __u32 max_entries)
{
	struct ads_array *array;
	int rc;

	if (!max_entries || max_entries > (1u << 31) || !ref->value_size || ref->value_size > ADS_MAX_VALUE ||
	    ref->key_size)
		return ADS_INVALID;
	rc = ads_alloc(a, sizeof(struct ads_array) + 8 * ads_array_chunks(ref->value_size, max_entries), &ref->offset);
	if (rc)
		return rc;
	array = ads_at(a, struct ads_array, ref->offset);
	array->header.kind = ADS_KIND_ARRAY;
	array->header.value_size = ref->value_size;
	array->header.max_entries = max_entries;
	array->header.table = ads_array_word(ref->offset, 0);
	array->header.first = ads_array_chunk_bytes(ref->value_size);
	array->header.most = (__u32)ads_array_chunks(ref->value_size, max_entries);
	return ADS_OK;
}

/* As ads_structure_check(), for an array. */
static inline int ads_array_check_header(struct ads_arena *a, struct ads_ref ref)
{
	const struct ads_header *h = ads_at(a, struct ads_header, ref.offset);
	__u64 bytes;

	if (ref.offset % ADS_LINE || !ref.value_size || ref.value_size > ADS_MAX_VALUE ||
	    ads_bad(a, ref.offset, sizeof(struct ads_array)) || h->kind != ADS_KIND_ARRAY || h->key_size ||
	    h->value_size != ref.value_size || !h->max_entries || h->flags != ref.flags ||
	    h->table != ads_array_word(ref.offset, 0) || h->first != ads_array_chunk_bytes(ref.value_size) ||
	    h->most != ads_array_chunks(ref.value_size, h->max_entries))
		return ADS_DAMAGED;
	/* The words follow the header in its block, which says how large it is. */
	bytes = sizeof(struct ads_array) + 8 * ads_array_chunks(ref.value_size, h->max_entries);
	if (8 + bytes > ads_block_bytes(a, ads_load_acquire(ads_at(a, __u64, ref.offset - 8)))) /* A10 */
		return ADS_DAMAGED;
	return ads_bad(a, ref.offset, bytes) ? ADS_DAMAGED : ADS_OK;
}

/* Entries that a ring has beyond those of its slots and CPUs, for records in the hands of who pushes. */
static inline __u32 ads_mpmc_hands(__u32 stride)
{
	__u32 hands = ADS_MPMC_HANDS_BYTES / stride;

	hands = hands < ADS_MPMC_HANDS ? hands : ADS_MPMC_HANDS;
	return hands > ADS_MPMC_HANDS_LEAST ? hands : ADS_MPMC_HANDS_LEAST;
}

/*
 * Make all entries of a ring, which is still private: later nobody needs memory, so BPF programs
 * find some whatever is populated.
 */
static inline int ads_mpmc_fill(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_pool_ref pool = ads_mpmc_pool(ref);
	struct ads_pool *p = &ads_collection_of(a, ref)->pool;
	__u64 *slots = (__u64 *)(ads_at(a, struct ads_mpmc, ref.offset) + 1);
	__u64 left = p->capacity, placed = 0, count_slots = 1ull << ads_collection_of(a, ref)->header.most;

	while (left) {
		__u64 count = left < ADS_MPMC_CHUNK ? left : ADS_MPMC_CHUNK;
		__u32 shard = ads_this_shard();
		struct ads_shard *s = ads_shard_of(a, pool, shard);
		__u32 entry;
		int rc = ads_block_claim(a, count << 32 | pool.offset | (shard << 2) | ADS_BLOCK_CHUNK, p->carved,
					 s->chunk);

		if (rc < 0)
			return rc;
		while ((entry = ads_shard_take(a, s, pool)) && entry != ADS_NOWHERE) {
			__u64 *link = ads_link_of(a, entry);

			if (placed < count_slots) {
				ads_store(link, ads_link_change(ads_load(link), ADS_MPMC_LIVE));
				ads_store(&slots[placed++], entry);
				ads_hand_clear(a);
			} else if (placed < count_slots + p->own_spares) {
				ads_spare_give(a, pool, ads_shard_place(pool, (__u32)(placed++ - count_slots)), entry);
				ads_hand_clear(a);
			} else {
				ads_pool_give(a, pool, entry);
			}
		}
		left = p->capacity - (p->carved >> 32);
	}
	return ADS_OK;
}

/* Create an MPMC ring; `slots` is rounded up to a power of two. `hands`: see ads_mpmc_hands(). */
static inline int ads_mpmc_make(struct ads_arena *a, struct ads_ref *ref, __u32 slots, __u32 hands)
{
	__u32 stride = ads_mpmc_pool(*ref).stride;
	struct ads_collection *c;
	__u64 bytes, cursor;
	__u32 bits = 0, spares;
	int rc;

	if (!slots || slots > (1u << 31) || !ref->value_size || ref->value_size > ADS_MAX_VALUE || ref->key_size ||
	    ref->flags)
		return ADS_INVALID;
	while ((1u << bits) < slots)
		bits++;
	/* All that it will ever need, so that a refusal leaves nothing behind. */
	spares = ads_shards_used();
	hands += spares;
	bytes = sizeof(struct ads_mpmc) + (8ull << bits) + ((1ull << bits) + hands) * stride;
	bytes += (2 + ((1ull << bits) + hands) / ADS_MPMC_CHUNK) * ADS_LINE;
	cursor = ads_load(&ads_root_of(a)->cursor);
	if (cursor > a->size)
		return ADS_DAMAGED;
	rc = bytes > a->size - cursor ? ADS_NO_MEMORY : ads_arena_populate(a, cursor + bytes);
	if (rc == ADS_NO_MEMORY)
		a->damaged_at = bytes;
	if (!rc)
		rc = ads_alloc(a, sizeof(struct ads_mpmc) + (8ull << bits), &ref->offset);
	if (rc)
		return rc;
	c = ads_collection_of(a, *ref);
	c->header.kind = ADS_KIND_MPMC;
	c->header.value_size = ref->value_size;
	c->header.max_entries = 1u << bits;
	c->header.most = bits;
	c->header.table = ref->offset + (__u32)sizeof(struct ads_mpmc);
	c->pool.stride = stride;
	c->pool.capacity = (1u << bits) + hands;
	c->pool.own_spares = spares;
	return ads_mpmc_fill(a, *ref);
}

static inline int ads_mpmc_create(struct ads_arena *a, struct ads_ref *ref, __u32 slots)
{
	return ads_mpmc_make(a, ref, slots, ads_mpmc_hands(ads_mpmc_pool(*ref).stride));
}

/* What an MPMC ring's header claims, as ads_structure_check() does. */
static inline int ads_mpmc_check(struct ads_arena *a, struct ads_ref ref)
{
	const struct ads_collection *c = ads_collection_of(a, ref);
	const struct ads_header *h = &c->header;
	__u64 slots, block;

	if (ref.key_size || ref.flags || !ref.value_size || ref.value_size > ADS_MAX_VALUE ||
	    ref.offset % ADS_LINE || ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return ADS_DAMAGED;
	slots = h->max_entries;
	if (h->kind != ADS_KIND_MPMC || h->key_size || h->value_size != ref.value_size || h->flags || !slots ||
	    h->most > 31 || slots != 1ull << h->most || h->table != ref.offset + sizeof(struct ads_mpmc))
		return ADS_DAMAGED;
	if (c->pool.stride != ads_mpmc_pool(ref).stride || c->pool.spares || c->pool.grace ||
	    c->pool.own_spares > ADS_SHARDS || c->pool.capacity <= slots + c->pool.own_spares ||
	    c->pool.capacity > slots + c->pool.own_spares + ADS_MPMC_HANDS)
		return ADS_DAMAGED;
	/* Slots follow the ring in its block, which says how large it is. */
	block = ads_load_acquire(ads_at(a, __u64, ref.offset - 8)); /* A10, pairs with R10 */
	if (8 + sizeof(struct ads_mpmc) + 8 * slots > ads_block_bytes(a, block))
		return ADS_DAMAGED;
	return ads_bad(a, ref.offset, sizeof(struct ads_mpmc) + 8 * slots) ? ADS_DAMAGED : ADS_OK;
}

/* The flags that a list, what is made of lists, or a queue can have. */
static inline __u32 ads_flags_of_kind(__u32 kind)
{
	if (ads_kind_is_hashed(kind))
		return ADS_GRACE;
	return kind == ADS_KIND_ORDEREDMAP || kind == ADS_KIND_INDEX ? ADS_GRACE | ADS_SIGNED | ADS_BYTES | ADS_LIVES : 0;
}

/* Check what a structure's header claims against what is expected; ref comes from the
 * directory or the caller, so nothing in it is trusted before. */
static inline int ads_structure_check(struct ads_arena *a, __u32 kind, struct ads_ref ref)
{
	const struct ads_header *h;
	__u64 table_bytes;

	if (kind == ADS_KIND_ARRAY)
		return ads_array_check_header(a, ref);
	if (kind == ADS_KIND_MPMC)
		return ads_mpmc_check(a, ref);
	if (kind == ADS_KIND_INTRUSIVE)
		return ads_intrusive_believe(a, ref);
	if (ref.key_size > ADS_MAX_KEY || ref.value_size > ADS_MAX_VALUE || ref.offset % ADS_LINE ||
	    ads_bad(a, ref.offset, kind == ADS_KIND_QUEUE  ? sizeof(struct ads_queue)
				   : kind == ADS_KIND_RING ? sizeof(struct ads_ring)
							   : sizeof(struct ads_collection)))
		return ADS_DAMAGED;
	h = ads_at(a, struct ads_header, ref.offset);
	if (h->kind != kind || h->key_size != ref.key_size || h->value_size != ref.value_size || !h->max_entries ||
	    h->flags != ref.flags)
		return ADS_DAMAGED;
	if (kind == ADS_KIND_RING)
		return ads_ring_believe(a, ref);
	if (ref.flags & ~ads_flags_of_kind(kind))
		return ADS_DAMAGED;
	if (kind != ADS_KIND_QUEUE) {
		const struct ads_pool *p = &ads_at(a, struct ads_collection, ref.offset)->pool;

		if (p->stride != ads_entry_stride(ref) || p->spares > ADS_SPARES ||
		    p->own_spares > ADS_SHARDS || p->capacity != h->max_entries + p->spares + p->own_spares || p->grace != !!(h->flags & ADS_GRACE))
			return ADS_DAMAGED;
	}
	if (ads_kind_has_table(kind)) {
		__u64 word = ads_load_acquire(&h->table); /* A6, pairs with R6 */

		if (!ads_table_believe(word) || h->most > 28 || (ads_kind_is_hashed(kind) && ads_bad(a, h->first, 8)))
			return ADS_DAMAGED;
		table_bytes = sizeof(struct ads_table) + (8ull << (64 - (word >> 32)));
	} else if (kind == ADS_KIND_LIST || kind == ADS_KIND_POOL || kind == ADS_KIND_INDEX) {
		if (h->table != ads_list_head(ref))
			return ADS_DAMAGED;
		table_bytes = 8;
	} else if (kind == ADS_KIND_QUEUE) {
		/* Slots follow the ring in its block, which says how large it is. */
		__u64 block = ads_load_acquire(ads_at(a, __u64, ref.offset - 8)); /* A10, pairs with R10 */

		if (h->max_entries & (h->max_entries - 1))
			return ADS_DAMAGED;
		table_bytes = (__u64)h->max_entries * ads_round_up(ref.value_size, 8);
		if (h->table != ref.offset + sizeof(struct ads_queue) ||
		    8 + sizeof(struct ads_queue) + table_bytes > ads_block_bytes(a, block))
			return ADS_DAMAGED;
	} else {
		return ADS_DAMAGED;
	}
	if (kind == ADS_KIND_ORDEREDMAP) {
		struct ads_ref index = ads_orderedmap_index(ref);

		if (!(ref.flags & ADS_LIVES) || !(ref.flags & ADS_BYTES) != !ref.key_size ||
		    ads_bad(a, ref.offset, sizeof(struct ads_orderedmap)) || ads_bad(a, (__u32)h->table, table_bytes) ||
		    ads_at(a, struct ads_header, index.offset)->first != ref.offset)
			return ADS_DAMAGED;
		return ads_structure_check(a, ADS_KIND_INDEX, index);
	}
	return ads_bad(a, (__u32)h->table, table_bytes) ? ADS_DAMAGED : ADS_OK;
}

/* Sizes and flags of the structure at ref->offset, from its header; not checked yet. */
static inline int ads_structure_fill(struct ads_arena *a, struct ads_ref *ref)
{
	const struct ads_header *h = ads_at(a, struct ads_header, ref->offset);

	if (ads_bad(a, ref->offset, sizeof(*h)))
		return ADS_DAMAGED;
	ref->key_size = h->key_size;
	ref->value_size = h->value_size;
	ref->flags = h->flags;
	return ADS_OK;
}

static inline struct ads_ref ads_directory_ref(__u32 offset)
{
	struct ads_ref ref = {offset, ADS_NAME_SIZE, sizeof(struct ads_directory_value), 0};

	return ref;
}

/* The directory's place, made on first use. */
static inline int ads_directory(struct ads_arena *a, int create, struct ads_ref *ref)
{
	struct ads_root *root = ads_root_of(a);
	__u64 at = ads_load_acquire(&root->directory); /* A8, pairs with R8 */
	int rc;

	*ref = ads_directory_ref(0);
	if (!at) {
		if (!create)
			return ADS_ABSENT;
		rc = ads_collection_create(a, ADS_KIND_LIST, ref, ADS_DIRECTORY_ENTRIES);
		if (rc)
			return rc;
		at = ads_cas(&root->directory, 0, ref->offset); /* R8 */
		if (!at)
			at = ref->offset;
	}
	if (at > a->size)
		return ADS_DAMAGED;
	ref->offset = (__u32)at;
	return ads_structure_check(a, ADS_KIND_LIST, *ref);
}

/* The key of a name: padded with zeros. ADS_INVALID: empty, or ADS_NAME_SIZE bytes and more. */
static inline int ads_directory_key(const char *name, char *key)
{
	size_t size = strnlen(name, ADS_NAME_SIZE);

	if (!size || size >= ADS_NAME_SIZE)
		return ADS_INVALID;
	memset(key, 0, ADS_NAME_SIZE);
	memcpy(key, name, size);
	return ADS_OK;
}

/* Whether a structure that a name leads to has been removed: then the name counts as absent. */
static inline int ads_structure_removed(struct ads_arena *a, __u32 offset)
{
	return !ads_bad(a, offset, sizeof(struct ads_header)) &&
	       ads_load_acquire(&ads_at(a, struct ads_header, offset)->removed); /* A18, pairs with R18 */
}

/* Take a name away from the removed structure that *value is about, if it still has it. */
static inline int ads_directory_forget(struct ads_arena *a, struct ads_ref ref, __u64 hash, const char *key,
				       const struct ads_directory_value *value)
{
	struct ads_directory_value gone;
	__u64 only;
	int rc;

	memcpy(&only, value, sizeof(only));
	rc = ads_list_delete_at(a, ads_list_head(ref), 0, ref, hash, key, &gone, &only);
	return rc == ADS_ABSENT ? ADS_OK : rc;
}

/* Name a structure; ADS_EXISTS leaves *value as what has the name. */
static inline int ads_directory_add(struct ads_arena *a, const char *name, struct ads_directory_value *value)
{
	struct ads_directory_value found;
	char key[ADS_NAME_SIZE];
	struct ads_ref ref;
	__u64 hash;
	__u32 entry, i;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	rc = ads_directory_key(name, key);
	if (rc)
		return rc;
	hash = ads_hash(key, ADS_NAME_SIZE, ADS_DIRECTORY_SEED);
	rc = ads_directory(a, 1, &ref);
	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop(i)) {
		rc = ads_list_store_at(a, ads_list_head(ref), 0, ref, hash, key, value, ADS_INSERT, &entry, 0);
		if (rc != ADS_EXISTS)
			break;
		rc = ads_list_get_at(a, ads_list_head(ref), 0, ref, hash, key, &found);
		if (rc == ADS_ABSENT)
			continue;
		if (rc)
			break;
		if (!ads_structure_removed(a, found.offset)) {
			*value = found;
			return ADS_EXISTS;
		}
		rc = ads_directory_forget(a, ref, hash, key, &found);
		if (rc)
			break;
		rc = ADS_BUDGET;
	}
	return rc ? ads_count(a, ref.offset, rc) : rc;
}

/*
 * Say what the records of a structure are: a copy of `schema`, `size` bytes of the text that `arenads
 * schema` prints, for ads_directory_add().
 */
static inline int ads_directory_describe(struct ads_arena *a, const void *schema, __u32 size,
					 struct ads_directory_value *value)
{
	int rc = ads_alloc(a, size, &value->schema_offset);

	if (rc)
		return rc;
	if (ads_bad(a, value->schema_offset, ads_round_up(size, 8)))
		return ADS_DAMAGED;
	ads_copy_in(a, value->schema_offset, schema, size);
	value->schema_size = size;
	return ADS_OK;
}

/*
 * Name a structure that ads_..._create() has made. `schema`: text that `arenads schema` prints, which
 * tells others the types of its records; NULL: they see keys and values as bytes, by their sizes.
 * ADS_EXISTS: something else has the name, and the structure stays without.
 */
static inline int ads_structure_name(struct ads_arena *a, const char *name, __u32 kind, struct ads_ref ref,
				     const char *schema)
{
	struct ads_directory_value value = {kind, ref.offset, 0, 0};
	int rc = schema ? ads_directory_describe(a, schema, (__u32)strlen(schema), &value) : ADS_OK;

	return rc ? rc : ads_directory_add(a, name, &value);
}

/* What has a name; ADS_ABSENT if nothing has. */
static inline int ads_directory_find(struct ads_arena *a, const char *name, struct ads_directory_value *value)
{
	char key[ADS_NAME_SIZE];
	struct ads_ref ref;
	int rc = ads_directory_key(name, key);

	if (!rc)
		rc = ads_directory(a, 0, &ref);
	if (rc)
		return rc;
	rc = ads_list_get_at(a, ads_list_head(ref), 0, ref, ads_hash(key, ADS_NAME_SIZE, ADS_DIRECTORY_SEED), key,
			       value);
	return !rc && ads_structure_removed(a, value->offset) ? ADS_ABSENT : rc;
}

/*
 * Remove a structure: its name is free, and operations on it end with ADS_REMOVED, in BPF
 * programs too. Its memory stays its own: somebody may be reading it. ADS_ABSENT: no such name.
 */
static inline int ads_directory_remove(struct ads_arena *a, const char *name)
{
	struct ads_directory_value value;
	char key[ADS_NAME_SIZE];
	struct ads_ref ref;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	rc = ads_directory_find(a, name, &value);
	if (rc)
		return rc;
	if (ads_bad(a, value.offset, sizeof(struct ads_header)))
		return ADS_DAMAGED;
	/* Commit. R18: whoever sees it removed may give its name away. */
	if (ads_cas(&ads_at(a, struct ads_header, value.offset)->removed, 0, 1))
		return ADS_ABSENT;
	ads_directory_key(name, key);
	rc = ads_directory(a, 0, &ref);
	return rc ? rc : ads_directory_forget(a, ref, ads_hash(key, ADS_NAME_SIZE, ADS_DIRECTORY_SEED), key, &value);
}

/*
 * Open a structure by name, of a kind and with records of these sizes; ref->offset becomes its
 * place. ADS_ABSENT, ADS_WRONG_TYPE: another kind or other sizes, or ADS_DAMAGED.
 */
static inline int ads_structure_open(struct ads_arena *a, const char *name, __u32 kind, struct ads_ref *ref)
{
	struct ads_directory_value value;
	const struct ads_header *h;
	int rc = ads_directory_find(a, name, &value);

	if (rc)
		return rc;
	if (ads_bad(a, value.offset, sizeof(struct ads_header)))
		return ADS_DAMAGED;
	h = ads_at(a, struct ads_header, value.offset);
	if (value.kind != kind || h->key_size != ref->key_size || h->value_size != ref->value_size)
		return ADS_WRONG_TYPE;
	ref->offset = value.offset;
	ref->flags = h->flags;
	return ads_structure_check(a, kind, *ref);
}

/* The next name in the directory; start with a zeroed scan and name. */
static inline int ads_directory_next(struct ads_arena *a, struct ads_scan *scan, char *name,
				     struct ads_directory_value *value)
{
	char next[ADS_NAME_SIZE];
	struct ads_ref ref;
	__u32 entry;
	int rc = ads_directory(a, 0, &ref);

	if (!rc && !scan->walk.start)
		rc = ads_scan_start(a, scan, ads_list_head(ref));
	while (!rc) {
		rc = ads_scan_next(a, scan, ref, name, next, value, &entry);
		if (rc)
			break;
		memcpy(name, next, sizeof(next));
		if (!ads_structure_removed(a, value->offset))
			break;
	}
	return rc;
}

/*
 * Grow the hash maps and ordered maps that BPF programs could not grow for want of populated memory. 0, or
 * an error of the directory.
 */
static inline int ads_directory_grow(struct ads_arena *a)
{
	struct ads_directory_value value;
	struct ads_scan scan;
	char name[ADS_NAME_SIZE];
	int rc;

	memset(&scan, 0, sizeof(scan));
	memset(name, 0, sizeof(name));
	while (!(rc = ads_directory_next(a, &scan, name, &value))) {
		struct ads_ref ref = {value.offset, 0, 0, 0};

		if (!ads_kind_has_table(value.kind) || ads_structure_fill(a, &ref))
			continue;
		if (!ads_structure_check(a, value.kind, ref) && ads_table_crowded(a, ref) &&
		    2ull * ads_collection_len(a, ref) > 1ull << ads_table_bits(ads_table_newest(a, ref.offset)))
			ads_table_grow(a, ref.offset);
	}
	return rc == ADS_ABSENT ? ADS_OK : rc;
}

#define ADS_RECLAIM_BATCH 64 /* structures that share a grace period */

/*
 * Give back the entries that wait in all structures made with ADS_GRACE, after one grace period: how
 * many, or an error.
 */
static inline __s64 ads_directory_reclaim(struct ads_arena *a)
{
	struct ads_directory_value value;
	struct ads_pool_ref pools[ADS_RECLAIM_BATCH];
	__u64 epochs[ADS_RECLAIM_BATCH];
	struct ads_scan scan;
	char name[ADS_NAME_SIZE];
	__u32 count = 0, i;
	__s64 given = 0;
	int rc = 0;

	memset(&scan, 0, sizeof(scan));
	memset(name, 0, sizeof(name));
	if (!ads_writable(a))
		return ADS_READ_ONLY;
	while (count < ADS_RECLAIM_BATCH && !(rc = ads_directory_next(a, &scan, name, &value))) {
		struct ads_ref ref = {value.offset, 0, 0, 0};

		if (ads_structure_fill(a, &ref) || !(ref.flags & ADS_GRACE) || ads_structure_check(a, value.kind, ref))
			continue;
		pools[count] = ads_pool_of(ref);
		rc = ads_pool_seal(a, pools[count], &epochs[count]);
		if (rc < 0)
			return rc;
		count += (__u32)rc;
	}
	if (rc < 0 && rc != ADS_ABSENT)
		return rc;
	rc = count ? ads_grace_period(a) : 0;
	for (i = 0; !rc && i < count; i++) {
		__s64 more = ads_pool_drain(a, pools[i], epochs[i]);

		if (more < 0)
			return more;
		given += more;
	}
	return rc ? rc : given;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_DIRECTORY_H */
