/* SPDX-License-Identifier: MIT */
/*
 * _core.c - the C core of the Python package. It implements nothing: it gives the inline
 * operations of include/arenads an address, one function an operation, with the common key
 * sizes as constants, as BPF programs have them; and loops over them for bulk work.
 */
#include <arenads/user.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef ADS_POINTS
#include <signal.h>
#endif

/*
 * key_width: of a key that is stored as an order and not as its bytes: an ordered map's integer, a
 * list's order. A record is struct { key, value }: value_at and record_size as C lays it out.
 * Of a pool: where in its records the nodes of intrusive lists are, in order; and for each page of the
 * arena the first of the pool's chunks that reaches into it, 0 until somebody has looked.
 */
typedef struct {
	struct ads_arena *arena;
	struct ads_ref ref;
	__u32 kind, key_width, value_at, record_size;
	__u32 *nodes, *chunks, node_count;
} core_structure;
typedef struct { char name[64]; char record[64]; __u32 size, offset; } core_layout;

/* Closing an arena marks it; EBADF, without asking Python before each operation. Another thread
 * may close it at any time: an operation that has begun then ends on zeros, see core_ended(). */
#define CORE_CLOSED (-9)

static ADS_INLINE int core_is_closed(const struct ads_arena *a)
{
	return !!(__atomic_load_n(&a->flags, __ATOMIC_RELAXED) & ADS_CLOSED);
}

/* Pool chunks are noted by pages of this size. */
#define CORE_PAGE 4096u

#define CORE_MAPPED(s)                                                         \
	do {                                                                   \
		if (core_is_closed((s)->arena))                                \
			return CORE_CLOSED;                                    \
	} while (0)
#define CORE_OPEN(s)                                                           \
	do {                                                                   \
		CORE_MAPPED(s);                                                \
		if (ads_load(&ads_at((s)->arena, struct ads_header, (s)->ref.offset)->removed)) \
			return ADS_REMOVED;                                    \
	} while (0)

/* What to return for `code`, if it may have come from the zeros of a closed arena. */
static ADS_INLINE __s64 core_ended(const struct ads_arena *a, __s64 code)
{
	return __atomic_load_n(&a->flags, __ATOMIC_ACQUIRE) & ADS_CLOSED ? CORE_CLOSED : code;
}

/* The same for a single key, where only a failure can have: a value found is one that was stored. */
static ADS_INLINE int core_answer(const core_structure *s, int code)
{
	return ADS_LIKELY(!code) ? code : (int)core_ended(s->arena, code);
}

static int core_is_open(const core_structure *s)
{
	CORE_OPEN(s);
	return ADS_OK;
}

static int core_root(struct ads_arena *a, struct ads_root *to)
{
	memcpy(to, ads_root_of(a), sizeof(*to));
	return ADS_OK;
}

/* Words, so that a reader of a value being written sees whole 8-byte fields. */
static int core_read(struct ads_arena *a, __u32 offset, void *to, __u32 size)
{
	if (ads_bad(a, offset, size))
		return ADS_DAMAGED;
	ads_copy_out(a, to, offset, size);
	return ADS_OK;
}

static int core_write(struct ads_arena *a, __u32 offset, const void *from, __u32 size)
{
	if (!ads_writable(a))
		return ADS_READ_ONLY;
	if (ads_bad(a, offset, ads_round_up(size, 8)))
		return ADS_DAMAGED;
	ads_copy_in(a, offset, from, size);
	return ADS_OK;
}

/* What the structure at an offset was made with: enum ads_structure_flags, or an error. */
static int core_structure_flags(struct ads_arena *a, __u32 offset)
{
	if (ads_bad(a, offset, sizeof(struct ads_header)) ||
	    ads_at(a, struct ads_header, offset)->flags > ADS_FLAGS_ALL)
		return ADS_DAMAGED;
	return (int)ads_at(a, struct ads_header, offset)->flags;
}

static __u32 core_max_entries(const core_structure *s)
{
	if (core_is_closed(s->arena))
		return 0;
	return ads_at(s->arena, struct ads_header, s->ref.offset)->max_entries;
}

static int core_counters(const core_structure *s, struct ads_counters *to)
{
	CORE_OPEN(s);
	struct ads_collection *c = ads_at(s->arena, struct ads_collection, s->ref.offset);

	if (ads_bad(s->arena, s->ref.offset, __builtin_offsetof(struct ads_collection, head)))
		return ADS_DAMAGED;
	to->full = ads_load(&c->counters.full);
	to->no_memory = ads_load(&c->counters.no_memory);
	to->budget = ads_load(&c->counters.budget);
	to->damaged = ads_load(&c->counters.damaged);
	to->dropped = ads_load(&c->counters.dropped);
	if (s->kind == ADS_KIND_RING)
		to->dropped = ads_ring_dropped(s->arena, s->ref);
	return ADS_OK;
}

static __s64 core_len(const core_structure *s)
{
	CORE_OPEN(s);
	return ads_collection_len(s->arena, s->ref);
}

/* The common key sizes as constants: the loops over words disappear. */
#define CORE_BY_KEY(call)                                                      \
	CORE_OPEN(s);                                                          \
	struct ads_ref ref = s->ref;                                           \
	if (ref.key_size == 8) {                                               \
		ref.key_size = 8;                                              \
		return core_answer(s, call);                                   \
	}                                                                      \
	if (ref.key_size == 4) {                                               \
		ref.key_size = 4;                                              \
		return core_answer(s, call);                                   \
	}                                                                      \
	return core_answer(s, call)

/* Shortcuts of the newest table. */
static __s64 core_hashmap_buckets(const core_structure *s)
{
	CORE_OPEN(s);
	return 1ll << ads_table_bits(ads_table_newest(s->arena, s->ref.offset));
}

static int core_hashmap_find(const core_structure *s, const char *key, __u32 *entry)
{
	CORE_BY_KEY(ads_hashmap_find(s->arena, ref, key, entry));
}

static int core_hashmap_get(const core_structure *s, const char *key, char *value)
{
	CORE_BY_KEY(ads_hashmap_get(s->arena, ref, key, value));
}

static int core_hashmap_update(const core_structure *s, const char *key, const char *value, int mode)
{
	__u32 entry;

	CORE_BY_KEY(ads_hashmap_update(s->arena, ref, key, value, (enum ads_update_mode)mode, &entry));
}

static int core_hashmap_update_next(const core_structure *s, const char *key, const char *value, int mode,
				    __u32 *kept)
{
	__u32 entry;

	CORE_BY_KEY(ads_hashmap_update_next(s->arena, ref, key, value, (enum ads_update_mode)mode, &entry, kept));
}

static int core_hashmap_pop(const core_structure *s, const char *key, char *value)
{
	CORE_BY_KEY(ads_hashmap_pop(s->arena, ref, key, value));
}

static int core_list_find(const core_structure *s, __u64 order, __u32 *entry)
{
	CORE_OPEN(s);
	return ads_list_find(s->arena, s->ref, order, entry);
}

static int core_list_get(const core_structure *s, __u64 order, char *value)
{
	CORE_OPEN(s);
	return ads_list_get(s->arena, s->ref, order, value);
}

static int core_list_update(const core_structure *s, __u64 order, const char *value, int mode)
{
	CORE_OPEN(s);
	__u32 entry;

	return ads_list_update(s->arena, s->ref, order, value, (enum ads_update_mode)mode, &entry);
}

static int core_list_pop(const core_structure *s, __u64 order, char *value)
{
	CORE_OPEN(s);
	return ads_list_pop(s->arena, s->ref, order, value);
}

static int core_list_push(const core_structure *s, const char *value, __u64 *order)
{
	CORE_OPEN(s);
	__u32 entry;

	return ads_list_push(s->arena, s->ref, value, order, &entry);
}

/* Push many, the first one first; *done: how many before the first error. */
static int core_list_push_many(const core_structure *s, const char *values, __u64 *orders, __u64 count, __u64 *done)
{
	for (; *done < count; ++*done) {
		int rc = core_list_push(s, values + *done * s->ref.value_size, orders + *done);

		if (rc)
			return rc;
	}
	return count ? ADS_OK : core_is_open(s);
}

static __u64 core_order(const core_structure *s, const char *key)
{
	return s->ref.flags & ADS_BYTES ? ads_order_of_bytes(key, s->ref.key_size)
					: ads_order_of_integer(key, s->key_width, s->ref.flags);
}

static int core_orderedmap_find(const core_structure *s, const char *key, __u32 *entry)
{
	CORE_OPEN(s);
	return ads_orderedmap_find(s->arena, s->ref, ads_orderedmap_seek, core_order(s, key), key, entry);
}

static int core_orderedmap_get(const core_structure *s, const char *key, char *value)
{
	CORE_OPEN(s);
	return ads_orderedmap_get(s->arena, s->ref, ads_orderedmap_seek, core_order(s, key), key, value);
}

static int core_orderedmap_update(const core_structure *s, const char *key, const char *value, int mode)
{
	__u32 entry;

	CORE_OPEN(s);
	return ads_orderedmap_update(s->arena, s->ref, ads_orderedmap_seek, core_order(s, key), key, value,
				     (enum ads_update_mode)mode, &entry);
}

static int core_orderedmap_pop(const core_structure *s, const char *key, char *value)
{
	CORE_OPEN(s);
	return ads_orderedmap_pop(s->arena, s->ref, ads_orderedmap_seek, core_order(s, key), key, value);
}

/* Delete the first entry: its key, as it would be packed, and its value. */
static int core_orderedmap_pop_first(const core_structure *s, char *key, char *value)
{
	__u64 order = 0;
	int rc;

	CORE_OPEN(s);
	rc = ads_orderedmap_pop_first(s->arena, s->ref, ads_orderedmap_seek, &order, key, value);
	if (!rc && !(s->ref.flags & ADS_BYTES))
		ads_integer_of_order(key, s->key_width, s->ref.flags, order);
	return rc;
}

/* Begin a scan at a key, or `after` it; core_scan() gets the same key as its first last_key. */
static int core_orderedmap_scan_from(const core_structure *s, struct ads_scan *scan, const char *key, int after)
{
	CORE_OPEN(s);
	return ads_orderedmap_scan_from(s->arena, s->ref, ads_orderedmap_seek, scan, core_order(s, key), key, after);
}

static int core_list_first(const core_structure *s, __u64 *order, char *value)
{
	CORE_OPEN(s);
	return ads_list_first(s->arena, s->ref, order, value);
}

static int core_list_pop_first(const core_structure *s, __u64 *order, char *value)
{
	CORE_OPEN(s);
	return ads_list_pop_first(s->arena, s->ref, order, value);
}

/* Whether a node is in a list, or about to be. */
static int core_node_is_taken(const core_structure *s, __u32 node)
{
	CORE_MAPPED(s);
	if (ads_bad(s->arena, node, sizeof(struct ads_node)))
		return ADS_DAMAGED;
	return ads_node_is_taken(ads_load_acquire(&ads_node_at(s->arena, node)->link));
}

/* Whether an object is in a chunk of the pool, in use or not. */
static int core_pool_has(const core_structure *s, __u64 object)
{
	struct ads_arena *a = s->arena;
	__u32 stride = ads_entry_stride(s->ref), pool = ads_pool_of(s->ref).offset;
	__u64 page = object / CORE_PAGE + 1, at = 0, bytes, word;

	/* As ads_pool_chunk_of(), but from the last chunk that is known to be before the object. */
	while (page-- && (!at || at > object))
		at = __atomic_load_n(&s->chunks[page], __ATOMIC_RELAXED);
	for (at = at && at <= object ? at : ADS_HEAP_OFFSET; at <= object && ads_arena_reaches(a, at + 8); at += bytes) {
		word = ads_load_acquire(ads_at(a, __u64, at));
		bytes = ads_block_bytes(a, word);
		if (!bytes || !ads_arena_reaches(a, at + bytes))
			break;
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != pool)
			continue;
		/* Chunks never change, so that whoever notes one notes the same. */
		for (page = at / CORE_PAGE; page <= (at + bytes - 1) / CORE_PAGE; page++)
			if (!__atomic_load_n(&s->chunks[page], __ATOMIC_RELAXED))
				__atomic_store_n(&s->chunks[page], (__u32)at, __ATOMIC_RELAXED);
		if (object < at + bytes) {
			__u32 first = (__u32)at + 8 + ads_entry_value_offset(s->ref);
			__u32 behind = (__u32)object - first;

			return object >= first && !(behind % stride) && behind / stride < word >> 32;
		}
	}
	return 0;
}

/* The offset of the object at an address, which must be in use if so wanted; ADS_ABSENT if it is none. */
static ADS_INLINE __s64 core_pool_object(const core_structure *s, __u64 address, int used)
{
	struct ads_arena *a = s->arena;
	__u64 object = address - (uintptr_t)a->base, link;
	__u32 entry = (__u32)object - ads_entry_value_offset(s->ref);

	CORE_OPEN(s);
	if (!object || object >= a->size || !core_pool_has(s, object))
		return ADS_ABSENT;
	if (!used)
		return (__s64)object;
	if (ads_bad(a, entry, ads_entry_stride(s->ref)))
		return ADS_ABSENT;
	link = ads_load_acquire(ads_link_of(a, entry));
	return link && !(link & ADS_LINK_MARK) ? (__s64)object : ADS_ABSENT;
}

static __s64 core_pool_place(const core_structure *s, __u64 address, int used)
{
	return core_pool_object(s, address, used);
}

static int core_pool_get(const core_structure *s, __u64 address, char *value)
{
	__s64 object = core_pool_object(s, address, 1);

	if (object < 0)
		return (int)object;
	ads_copy_out(s->arena, value, (__u32)object, s->ref.value_size);
	return ADS_OK;
}

/* Write an object but for its nodes, which intrusive lists alone change. */
static ADS_INLINE void core_pool_write(const core_structure *s, __u32 object, const char *value)
{
	__u32 at = 0, i;

	for (i = 0; i <= s->node_count; i++) {
		__u32 end = i < s->node_count ? s->nodes[i] : s->ref.value_size;

		ads_copy_in(s->arena, object + at, value + at, end - at);
		at = end + (__u32)sizeof(struct ads_node);
	}
}

static int core_pool_set(const core_structure *s, __u64 address, const char *value)
{
	__s64 object = core_pool_object(s, address, 1);

	if (object < 0)
		return (int)object;
	if (!ads_writable(s->arena))
		return ADS_READ_ONLY;
	core_pool_write(s, (__u32)object, value);
	return ADS_OK;
}

/* The address of a new object. */
static __s64 core_pool_alloc(const core_structure *s, const char *value)
{
	__u32 object;
	int rc;

	CORE_OPEN(s);
	rc = ads_pool_alloc(s->arena, s->ref, &object);
	if (rc)
		return rc;
	core_pool_write(s, object, value);
	return (__s64)((uintptr_t)s->arena->base + object);
}

/* ADS_LINKED: one of its nodes is in a list, or about to be. */
static int core_pool_free(const core_structure *s, __u64 address)
{
	__s64 object = core_pool_object(s, address, 1);
	__u32 i;
	int rc;

	if (object < 0)
		return (int)object;
	for (i = 0; i < s->node_count; i++) {
		rc = core_node_is_taken(s, (__u32)object + s->nodes[i]);
		if (rc)
			return rc < 0 ? rc : ADS_LINKED;
	}
	rc = ads_pool_free(s->arena, s->ref, (__u32)object);
	return rc == ADS_INVALID ? ADS_ABSENT : rc; /* freed since */
}

/* The list that a node is in or was in last; 0: none. */
static __u32 core_node_list(const core_structure *s, __u32 node)
{
	if (core_is_closed(s->arena) || ads_bad(s->arena, node, sizeof(struct ads_node)))
		return 0;
	return (__u32)ads_load(&ads_node_at(s->arena, node)->list);
}

static int core_intrusive_create(struct ads_arena *a, struct ads_ref *ref, const core_structure *pool, __u32 node)
{
	return ads_intrusive_create(a, ref, pool->ref, node);
}

/* The pool of a list and its nodes' place in the records. */
static int core_intrusive_pool(const core_structure *s, __u32 *pool, __u32 *node)
{
	CORE_OPEN(s);
	const struct ads_header *h = ads_at(s->arena, struct ads_header, s->ref.offset);
	int rc = ads_intrusive_believe(s->arena, s->ref);

	*pool = rc ? 0 : h->first;
	*node = rc ? 0 : h->most;
	return rc;
}

static int core_intrusive_push(const core_structure *s, __u32 node, __u64 *order)
{
	CORE_OPEN(s);
	return ads_intrusive_push(s->arena, s->ref, node, order);
}

static int core_intrusive_insert(const core_structure *s, __u64 order, __u32 node)
{
	CORE_OPEN(s);
	return ads_intrusive_insert(s->arena, s->ref, order, node);
}

static int core_intrusive_remove(const core_structure *s, __u32 node)
{
	CORE_MAPPED(s); /* a removed list can be emptied */
	return ads_intrusive_remove(s->arena, s->ref, node);
}

static int core_intrusive_pop(const core_structure *s, __u64 order, __u32 *node)
{
	CORE_MAPPED(s); /* a removed list can be emptied */
	return ads_intrusive_pop(s->arena, s->ref, order, node);
}

static int core_intrusive_pop_first(const core_structure *s, __u64 *order, __u32 *node)
{
	CORE_MAPPED(s); /* a removed list can be emptied */
	return ads_intrusive_pop_first(s->arena, s->ref, order, node);
}

static int core_intrusive_find(const core_structure *s, __u64 order, __u32 *node)
{
	CORE_OPEN(s);
	return ads_intrusive_find(s->arena, s->ref, order, node);
}

static int core_intrusive_first(const core_structure *s, __u64 *order, __u32 *node)
{
	CORE_OPEN(s);
	return ads_intrusive_first(s->arena, s->ref, order, node);
}

static int core_intrusive_contains(const core_structure *s, __u32 node, __u64 *order)
{
	CORE_OPEN(s);
	return ads_intrusive_contains(s->arena, s->ref, node, order);
}

static __s64 core_intrusive_len(const core_structure *s)
{
	CORE_OPEN(s);
	return ads_intrusive_len(s->arena, s->ref);
}

/* Up to `count` pairs {order, node}. Fewer at the end; the error if there was one before the first. */
static __s64 core_intrusive_scan(const core_structure *s, struct ads_scan *scan, __u64 *pairs, __u64 count)
{
	CORE_OPEN(s);
	__u64 i;

	for (i = 0; i < count; i++) {
		__u32 node;
		int rc = ads_intrusive_next(s->arena, s->ref, scan, &node);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : rc;
		pairs[2 * i] = scan->hash;
		pairs[2 * i + 1] = node;
	}
	return (__s64)count;
}

static __u32 core_entry_stride(const core_structure *s)
{
	return ads_entry_stride(s->ref);
}

/* Of a queue or an MPMC ring, as the functions below. */
static int core_queue_push(const core_structure *s, const char *value)
{
	CORE_OPEN(s);
	if (s->kind == ADS_KIND_MPMC)
		return ads_mpmc_push(s->arena, s->ref, value);
	return ads_queue_push(s->arena, s->ref, value);
}

static int core_queue_pop(const core_structure *s, char *value)
{
	CORE_OPEN(s);
	if (s->kind == ADS_KIND_MPMC)
		return ads_mpmc_pop(s->arena, s->ref, value);
	return ads_queue_pop(s->arena, s->ref, value);
}

/* How many were pushed before the first that failed; its error if that was the first. */
static __s64 core_queue_push_many(const core_structure *s, const char *values, __u64 count)
{
	CORE_OPEN(s);
	__u64 i;

	for (i = 0; i < count; i++) {
		int rc = core_queue_push(s, values + i * s->ref.value_size);

		if (rc)
			return i ? (__s64)i : rc;
	}
	return (__s64)count;
}

static __s64 core_queue_pop_many(const core_structure *s, char *values, __u64 count)
{
	CORE_OPEN(s);
	__u64 i;

	for (i = 0; i < count; i++) {
		int rc = core_queue_pop(s, values + i * s->ref.value_size);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : rc;
	}
	return (__s64)count;
}

static __s64 core_queue_len(const core_structure *s)
{
	CORE_OPEN(s);
	if (s->kind == ADS_KIND_MPMC)
		return (__s64)ads_mpmc_len(s->arena, s->ref);
	return (__s64)(ads_queue_len(s->arena, s->ref) & ~(1ull << 63));
}

/* A walk over what waits in a queue or an MPMC ring; the kind says in which. */
typedef struct { struct ads_queue_cursor queue; struct ads_mpmc_cursor mpmc; } core_fifo_cursor;

static int core_queue_walk(const core_structure *s, core_fifo_cursor *c)
{
	CORE_OPEN(s);
	if (s->kind == ADS_KIND_MPMC)
		return ads_mpmc_walk(s->arena, s->ref, &c->mpmc);
	return ads_queue_walk(s->arena, s->ref, &c->queue);
}

/* Copy up to `count` records of a walk. Fewer at the end; the error if it was with the first. */
static __s64 core_queue_read(const core_structure *s, core_fifo_cursor *c, char *values, __u64 count)
{
	CORE_OPEN(s);
	__u64 i;

	for (i = 0; i < count; i++) {
		char *value = values + i * s->ref.value_size;
		int rc = s->kind == ADS_KIND_MPMC ? ads_mpmc_read(s->arena, s->ref, &c->mpmc, value)
						  : ads_queue_read(s->arena, s->ref, &c->queue, value);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : rc;
	}
	return (__s64)count;
}

/* Bytes of the arena that are the structure's, with those of the block at `schema`. */
static __s64 core_structure_bytes(const core_structure *s, __u32 schema)
{
	CORE_MAPPED(s);
	return ads_structure_bytes(s->arena, s->kind, s->ref, schema);
}

/* Copy up to `count` objects in use of a pool: records {address:8, value rounded up to 8 bytes}. */
static __s64 core_pool_walk(const core_structure *s, struct ads_pool_walk *walk, char *records, __u64 count)
{
	CORE_OPEN(s);
	__u32 padding = ads_round_up(s->ref.value_size, 8) - s->ref.value_size;
	__u32 size = 8 + s->ref.value_size + padding;
	__u64 i;

	for (i = 0; i < count; i++, records += size) {
		__u32 object;
		__u64 word;
		int rc = ads_pool_next(s->arena, s->ref, walk, &object, records + 8);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : rc;
		word = (__u64)(uintptr_t)s->arena->base + object;
		memcpy(records, &word, 8);
		memset(records + size - padding, 0, padding);
	}
	return (__s64)count;
}

static int core_ring_push(const core_structure *s, const char *data, __u32 size)
{
	CORE_OPEN(s);
	return ads_ring_push(s->arena, s->ref, data, size);
}

/* How many were pushed, and published together, before the first that failed; its error if that
 * was the first. Record i has sizes[i] bytes, the records lie one after the other. */
static __s64 core_ring_push_many(const core_structure *s, const char *data, const __u32 *sizes, __u64 count)
{
	CORE_OPEN(s);
	__u64 i;
	int rc = ADS_OK;

	for (i = 0; i < count; i++) {
		rc = ads_ring_append(s->arena, s->ref, data, sizes[i], 0);
		if (rc)
			break;
		data += sizes[i];
	}
	if (!i)
		return rc;
	rc = ads_ring_publish(s->arena, s->ref);
	return rc ? rc : (__s64)i;
}

static int core_ring_reserve(const core_structure *s, __u32 size, struct ads_ring_draft *draft, __u32 *place)
{
	CORE_OPEN(s);
	return ads_ring_reserve(s->arena, s->ref, size, draft, place);
}

static int core_ring_commit(const core_structure *s, struct ads_ring_draft *draft, int publish)
{
	CORE_OPEN(s);
	return publish ? ads_ring_submit(s->arena, s->ref, draft) : ads_ring_commit(s->arena, s->ref, draft);
}

static int core_ring_publish(const core_structure *s)
{
	CORE_OPEN(s);
	return ads_ring_publish(s->arena, s->ref);
}

/* --- rings for many producers ------------------------------------------------------------ */

typedef struct {
	struct ads_arena *arena;
	struct ads_rings rings;
} core_rings;

static int core_rings_open(core_rings *r, const char *name)
{
	CORE_MAPPED(r);
	return ads_rings_open(r->arena, name, &r->rings);
}

static int core_rings_push(const core_rings *r, const char *data, __u32 size)
{
	CORE_MAPPED(r);
	return ads_rings_push(r->arena, r->rings.each, r->rings.flags, data, size);
}

/* As core_ring_push_many, all to one ring. */
static __s64 core_rings_push_many(const core_rings *r, const char *data, const __u32 *sizes, __u64 count)
{
	CORE_MAPPED(r);
	core_structure one = {.arena = r->arena, .kind = ADS_KIND_RING, .ref = {0, 0, 0, r->rings.flags}};
	__s64 done;
	int rc = ads_rings_enter(r->arena, r->rings.each, &one.ref.offset);

	if (rc)
		return rc;
	done = core_ring_push_many(&one, data, sizes, count);
	ads_rings_leave(r->arena, one.ref.offset);
	return done;
}

static int core_rings_reserve(const core_rings *r, __u32 size, struct ads_rings_draft *draft, __u32 *place)
{
	CORE_MAPPED(r);
	return ads_rings_reserve(r->arena, r->rings.each, r->rings.flags, size, draft, place);
}

static int core_rings_submit(const core_rings *r, struct ads_rings_draft *draft)
{
	CORE_MAPPED(r);
	return ads_rings_submit(r->arena, r->rings.flags, draft);
}

static int core_rings_discard(const core_rings *r, struct ads_rings_draft *draft)
{
	CORE_MAPPED(r);
	ads_rings_discard(r->arena, draft);
	return ADS_OK;
}

static __s64 core_rings_taken(const core_rings *r)
{
	CORE_MAPPED(r);
	return ads_rings_taken(r->arena, &r->rings);
}

static __s64 core_rings_free(const core_rings *r)
{
	CORE_MAPPED(r);
	return ads_rings_free(r->arena, &r->rings);
}

/* Whether this thread has a line in the registry of writing threads. */
static int core_is_registered(struct ads_arena *a)
{
	return core_is_closed(a) ? CORE_CLOSED : ads_writable(a) && ads_owner_line(a);
}

/* Take the oldest record: how long it is, or an error. If there is no room for it *size is that. */
static __s64 core_ring_pop(const core_structure *s, char *to, __u32 room, __u32 *size)
{
	CORE_OPEN(s);
	int rc = ads_ring_pop(s->arena, s->ref, to, room, size);

	return rc ? rc : (__s64)*size;
}

/* Bytes of {size:8, record, rounded up to 8} that were written; as much as there is room for. */
#define CORE_RECORD(size) (8 + (((__u64)(size) + 7) & ~7ull))

/* Take up to `count` records, as many as have room: one commit, unless the ring overwrites.
 * How many; the error if it was with the first. */
static __s64 core_ring_drain(const core_structure *s, char *to, __u64 room, __u64 count)
{
	CORE_OPEN(s);
	struct ads_ring_cursor batch, taken;
	__u64 done = 0;
	int rc = ADS_OK;

	if (!ads_writable(s->arena))
		return ADS_READ_ONLY;
	if (s->ref.flags & ADS_OVERWRITE) {
		for (; done < count && room >= 8; done++) {
			__u32 size;
			__u64 word;

			rc = ads_ring_pop(s->arena, s->ref, to + 8, (__u32)(room - 8 < ~0u ? room - 8 : ~0u), &size);
			if (rc)
				break;
			word = size;
			memcpy(to, &word, 8);
			room -= CORE_RECORD(size) < room ? CORE_RECORD(size) : room;
			to += CORE_RECORD(size);
		}
		return done || rc == ADS_ABSENT ? (__s64)done : rc;
	}
	rc = ads_ring_peek(s->arena, s->ref, &batch);
	for (taken = batch; !rc && done < count; done++, taken = batch) {
		__u32 place, size;
		__u64 word;

		rc = ads_ring_next(s->arena, s->ref, &batch, &place, &size);
		if (rc || CORE_RECORD(size) > room)
			break;
		word = size;
		memcpy(to, &word, 8);
		ads_copy_out(s->arena, to + 8, place, size);
		room -= CORE_RECORD(size);
		to += CORE_RECORD(size);
	}
	if (!done)
		return rc == ADS_ABSENT ? 0 : rc;
	rc = ads_ring_release(s->arena, s->ref, &taken);
	return rc ? rc : (__s64)done;
}

static __s64 core_ring_waiting(const core_structure *s)
{
	CORE_OPEN(s);
	if (ads_bad(s->arena, s->ref.offset, sizeof(struct ads_ring)))
		return ADS_DAMAGED;
	return (__s64)(ads_ring_waiting(s->arena, s->ref) & ~(1ull << 63));
}

/* Records that wait. */
static __s64 core_ring_count(const core_structure *s)
{
	CORE_OPEN(s);
	struct ads_ring_cursor c;
	__s64 count = 0;
	__u32 size;
	int rc = ads_ring_walk(s->arena, s->ref, &c);

	while (!rc && !(rc = ads_ring_read(s->arena, s->ref, &c, 0, 0, &size)))
		count++;
	return rc == ADS_ABSENT ? count : rc;
}

static int core_ring_walk(const core_structure *s, struct ads_ring_cursor *c)
{
	CORE_OPEN(s);
	return ads_ring_walk(s->arena, s->ref, c);
}

/* Copy the next records of a walk, up to `count`, as many as have room; as core_ring_drain. The
 * size of a first one that has no room is in *needed. */
static __s64 core_ring_read(const core_structure *s, struct ads_ring_cursor *c, char *to, __u64 room, __u64 count,
			      __u32 *needed)
{
	CORE_OPEN(s);
	__u64 done = 0;

	*needed = 0;
	for (; done < count && room >= 8; done++) {
		__u64 word;
		int rc = ads_ring_read(s->arena, s->ref, c, to + 8, (__u32)(room - 8 < ~0u ? room - 8 : ~0u), needed);

		if (rc)
			return done || rc == ADS_ABSENT ? (__s64)done : rc;
		word = *needed;
		memcpy(to, &word, 8);
		room -= CORE_RECORD(*needed) < room ? CORE_RECORD(*needed) : room;
		to += CORE_RECORD(*needed);
	}
	return (__s64)done;
}

static int core_scan_start(const core_structure *s, struct ads_scan *scan)
{
	CORE_OPEN(s);
	if (ads_kind_is_hashed(s->kind))
		return ads_hashmap_scan(s->arena, s->ref, scan);
	return ads_scan_start(s->arena, scan, ads_list_head(s->ref));
}

/* Of a list: go on behind an order. */
static int core_scan_after(const core_structure *s, struct ads_scan *scan, __u64 order)
{
	CORE_OPEN(s);
	return ads_scan_after(s->arena, scan, ads_list_head(s->ref), order);
}

/* Fill in what a scan leaves out: a key that is kept as its order. Padding is zero, nothing of ours
 * gets out with it. */
static inline void core_finish_record(const core_structure *s, char *record, __u64 order)
{
	__u32 key = s->ref.key_size + s->key_width, end = s->value_at + s->ref.value_size;

	if (s->key_width)
		ads_integer_of_order(record, s->key_width, s->ref.flags, order);
	if (ADS_UNLIKELY(key != s->value_at))
		memset(record + key, 0, s->value_at - key);
	if (ADS_UNLIKELY(end != s->record_size))
		memset(record + end, 0, s->record_size - end);
}

/*
 * Up to `count` records. Fewer at the end; the error if there was one before the first. `last_key`: of
 * the record before, if any. An ordered map ends before the key `stop`, if it is not NULL.
 */
static __s64 core_scan(const core_structure *s, struct ads_scan *scan, const char *last_key, const char *stop,
			 char *records, __u64 count)
{
	CORE_OPEN(s);
	__u64 stop_order = stop ? core_order(s, stop) : 0;
	__u64 i;

	for (i = 0; i < count; i++, records += s->record_size) {
		__u32 entry;
		int rc = s->kind == ADS_KIND_ORDEREDMAP
				 ? ads_orderedmap_next(s->arena, s->ref, ads_orderedmap_seek, scan, last_key, records,
						       records + s->value_at, &entry)
				 : ads_scan_next(s->arena, scan, s->ref, last_key, records, records + s->value_at, &entry);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : ads_count(s->arena, s->ref.offset, rc);
		/* That goes for all behind it too: the next call finds none. */
		if (stop && !ads_orderedmap_is_before(s->ref, scan->hash, records, stop_order, stop))
			return (__s64)i;
		core_finish_record(s, records, scan->hash);
		last_key = records;
	}
	return (__s64)count;
}

/* All records, in calls that append some each time: a sweep of what is hashed, or else a scan. */
typedef struct {
	struct ads_sweep lanes;
	struct ads_scan scan;
	const char *start, *stop;
} core_sweep;

/* Of an ordered map only keys from `start` on and before `stop`, which may be NULL; they stay the caller's. */
static int core_sweep_start(const core_structure *s, core_sweep *w, const char *start, const char *stop)
{
	CORE_OPEN(s);
	w->start = start;
	w->stop = stop;
	if (ads_kind_is_hashed(s->kind))
		return ads_hashmap_sweep(s->arena, s->ref, &w->lanes);
	if (start)
		return core_orderedmap_scan_from(s, &w->scan, start, 0);
	return ads_scan_start(s->arena, &w->scan, ads_list_head(s->ref));
}

/* Append up to `count` records behind the first `at`; 0: there are no more. */
static __s64 core_sweep_on(const core_structure *s, core_sweep *w, char *records, __u64 at, __u64 count)
{
	CORE_OPEN(s);
	if (ads_kind_is_hashed(s->kind))
		return ads_hashmap_sweep_records(s->arena, s->ref, &w->lanes, s->value_at, s->record_size, records, at,
						 count);
	return core_scan(s, &w->scan, at ? records + (at - 1) * s->record_size : w->start, w->stop,
			 records + at * s->record_size, count);
}

/* --- blocks: memory of records that Python and consumers of Arrow data hold together ---------- */

typedef struct { __u64 holders, unused; } core_block;
#define CORE_BLOCK(bytes) ((core_block *)(void *)(bytes) - 1)

/* The bytes of a block, held once; a block that exists, held once, gets another size. NULL: no memory. */
static char *core_block_resize(char *bytes, __u64 size)
{
	core_block *block = size > ~0ull / 2 ? 0 : realloc(bytes ? CORE_BLOCK(bytes) : 0, sizeof(core_block) + size);

	if (!block)
		return 0;
	block->holders = 1;
	return (char *)(block + 1);
}

static void core_block_hold(const char *bytes)
{
	__atomic_add_fetch(&CORE_BLOCK(bytes)->holders, 1, __ATOMIC_RELAXED);
}

static void core_block_release(char *bytes)
{
	if (bytes && !__atomic_sub_fetch(&CORE_BLOCK(bytes)->holders, 1, __ATOMIC_ACQ_REL))
		free(CORE_BLOCK(bytes));
}

/* --- many keys in one call ------------------------------------------------------------------------ */

static __u32 core_key_size(const core_structure *s)
{
	return s->ref.key_size + s->key_width;
}

/*
 * Keys that are integers, as they are: to pack one in Python takes a quarter of the call. They are of
 * a signed type or not; CORE_UNFIT if that type does not hold the number.
 */
#define CORE_UNFIT (-10)

static ADS_INLINE int core_unfit_unsigned(const core_structure *s, __u64 key)
{
	__u32 spare = 64 - 8 * core_key_size(s);

	return spare > 63 || key << spare >> spare != key;
}

static ADS_INLINE int core_unfit_signed(const core_structure *s, __s64 key)
{
	__u32 spare = 64 - 8 * core_key_size(s);

	return spare > 63 || (__s64)((__u64)key << spare) >> spare != key;
}

#define CORE_BY_INTEGER(operation, name, type, place)                          \
	static int core_map_##operation##_##name(const core_structure *s, type key, place to) \
	{                                                                      \
		const char *bytes = (const char *)&key;                        \
									       \
		if (core_unfit_##name(s, key))                                 \
			return CORE_UNFIT;                                     \
		return s->kind == ADS_KIND_ORDEREDMAP ? core_orderedmap_##operation(s, bytes, to) \
						      : core_hashmap_##operation(s, bytes, to); \
	}
CORE_BY_INTEGER(find, unsigned, __u64, __u32 *)
CORE_BY_INTEGER(find, signed, __s64, __u32 *)
CORE_BY_INTEGER(get, unsigned, __u64, char *)
CORE_BY_INTEGER(get, signed, __s64, char *)
CORE_BY_INTEGER(pop, unsigned, __u64, char *)
CORE_BY_INTEGER(pop, signed, __s64, char *)

/* Before each group of keys: ask the cache for what they need. */
#define CORE_GROUP 16u
static void core_prefetch(const core_structure *s, const char *keys, __u64 i, __u64 count)
{
	if (!(i % CORE_GROUP) && ads_kind_is_hashed(s->kind))
		ads_hashmap_prefetch(s->arena, s->ref, keys, (__u32)(count - i < CORE_GROUP ? count - i : CORE_GROUP));
}

/* For each key whether it is there, and its value if `values` is not NULL (zeros if it is not). */
static int core_get_many(const core_structure *s, const char *keys, char *values, char *found, __u64 count)
{
	__u32 key_size = core_key_size(s), entry;
	__u64 i;

	for (i = 0; i < count; i++, keys += key_size) {
		int rc;

		core_prefetch(s, keys, i, count);
		if (s->kind == ADS_KIND_ORDEREDMAP)
			rc = values ? core_orderedmap_get(s, keys, values) : core_orderedmap_find(s, keys, &entry);
		else
			rc = values ? core_hashmap_get(s, keys, values) : core_hashmap_find(s, keys, &entry);
		if (rc && rc != ADS_ABSENT)
			return rc;
		found[i] = !rc;
		if (values && rc)
			memset(values, 0, s->ref.value_size);
		if (values)
			values += s->ref.value_size;
	}
	return count ? ADS_OK : core_is_open(s);
}

/* Store one key of an ordered map, or of a list an order. */
static int core_store(const core_structure *s, const char *key, const char *value, int mode)
{
	__u64 order;

	if (s->kind == ADS_KIND_ORDEREDMAP)
		return core_orderedmap_update(s, key, value, mode);
	memcpy(&order, key, sizeof(order));
	return core_list_update(s, order, value, mode);
}

static int core_delete(const core_structure *s, const char *key)
{
	__u64 order;

	if (s->kind == ADS_KIND_ORDEREDMAP)
		return core_orderedmap_pop(s, key, 0);
	if (s->kind != ADS_KIND_LIST)
		return core_hashmap_pop(s, key, 0);
	memcpy(&order, key, sizeof(order));
	return core_list_pop(s, order, 0);
}

/* Store many; *done: how many before the first error. A key that a set has already is none. */
static int core_update_many(const core_structure *s, const char *keys, const char *values, int mode, __u64 count,
			    __u64 *done)
{
	__u32 key_size = core_key_size(s), kept = 0;
	int rc = count ? ADS_OK : core_is_open(s);

	for (; *done < count; ++*done) {
		const char *key = keys + *done * key_size, *value = values + *done * s->ref.value_size;

		core_prefetch(s, key, *done, count);
		rc = ads_kind_is_hashed(s->kind) ? core_hashmap_update_next(s, key, value, mode, &kept)
						 : core_store(s, key, value, mode);
		if (rc && (rc != ADS_EXISTS || s->kind != ADS_KIND_SET))
			break;
		rc = ADS_OK;
	}
	ads_hashmap_let_go(s->arena, s->ref, &kept);
	return rc;
}

/* Delete many; *done: how many keys before the first error, *deleted: how many of them were there. */
static int core_delete_many(const core_structure *s, const char *keys, __u64 count, __u64 *done, __u64 *deleted)
{
	__u32 key_size = core_key_size(s);

	for (; *done < count; ++*done) {
		const char *key = keys + *done * key_size;
		int rc;

		core_prefetch(s, key, *done, count);
		rc = core_delete(s, key);
		if (rc && rc != ADS_ABSENT)
			return rc;
		*deleted += !rc;
	}
	return count ? ADS_OK : core_is_open(s);
}

/* An aligned 8-byte field of the value in `entry`, NULL if there is none. */
static __u64 *core_field(const core_structure *s, __u32 entry, __u32 at)
{
	if (at % 8 || at + 8 > s->ref.value_size || ads_bad(s->arena, entry, ads_entry_stride(s->ref)))
		return 0;
	return ads_at(s->arena, __u64, entry + ads_entry_value_offset(s->ref) + at);
}

enum core_access { CORE_LOAD, CORE_STORE, CORE_ADD, CORE_CAS, CORE_EXCHANGE };

static __u64 core_access_word(__u64 *field, int access, __u64 operand, __u64 expected)
{
	switch (access) {
	case CORE_LOAD:
		return ads_load_acquire(field);
	case CORE_ADD:
		return ads_add(field, operand);
	case CORE_CAS:
		return ads_cas(field, expected, operand);
	case CORE_EXCHANGE:
		return ads_xchg(field, operand);
	default:
		ads_store_release(field, operand);
		return 0;
	}
}

/* Work on one 8-byte field of the live value of an entry: what the word was is in *before. */
static int core_entry_field(const core_structure *s, __u32 entry, __u32 at, int access, __u64 operand,
			    __u64 expected, __u64 *before)
{
	__u64 *field;

	if (access != CORE_LOAD && !ads_writable(s->arena))
		return ADS_READ_ONLY;
	field = core_field(s, entry, at);
	if (!field)
		return ADS_INVALID;
	*before = core_access_word(field, access, operand, expected);
	return ADS_OK;
}

/*
 * Find a key and work on a field, as core_entry_field(). `operand` is what to store, add, or put in
 * place of `expected`.
 */
static int core_map_field(const core_structure *s, const char *key, __u32 at, int access, __u64 operand,
			  __u64 expected, __u64 *before)
{
	__u32 entry;
	int rc = s->kind == ADS_KIND_ORDEREDMAP ? core_orderedmap_find(s, key, &entry) : core_hashmap_find(s, key, &entry);

	return rc ? rc : core_entry_field(s, entry, at, access, operand, expected, before);
}

static int core_map_field_unsigned(const core_structure *s, __u64 key, __u32 at, int access, __u64 operand,
				   __u64 expected, __u64 *before)
{
	__u32 entry;
	int rc = core_map_find_unsigned(s, key, &entry);

	return rc ? rc : core_entry_field(s, entry, at, access, operand, expected, before);
}

static int core_map_field_signed(const core_structure *s, __s64 key, __u32 at, int access, __u64 operand,
				 __u64 expected, __u64 *before)
{
	__u32 entry;
	int rc = core_map_find_signed(s, key, &entry);

	return rc ? rc : core_entry_field(s, entry, at, access, operand, expected, before);
}

/* --- arrays: the common element sizes as constants, for shifts instead of multiplications -- */

#define CORE_BY_VALUE(call)                                                    \
	CORE_OPEN(s);                                                          \
	struct ads_ref ref = s->ref;                                           \
	__u32 entries = ads_array_entries(s->arena, ref);                      \
	if (ref.value_size == 8) {                                             \
		ref.value_size = 8;                                            \
		return core_answer(s, call);                                   \
	}                                                                      \
	return core_answer(s, call)

static int core_array_get(const core_structure *s, __u32 index, char *value)
{
	CORE_BY_VALUE(ads_array_get(s->arena, ref, entries, index, value));
}

static int core_array_set(const core_structure *s, __u32 index, const char *value)
{
	CORE_BY_VALUE(ads_array_set(s->arena, ref, entries, index, value));
}

/* `count` elements, `step` apart from one to the next, up to the first error. */
static int core_array_get_many(const core_structure *s, __u32 index, __s64 step, char *values, __u64 count)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref);
	int rc = ADS_OK;

	for (; count && !rc; count--, values += s->ref.value_size, index = (__u32)(index + step))
		rc = ads_array_get(s->arena, s->ref, entries, index, values);
	return rc;
}

static int core_array_set_many(const core_structure *s, __u32 index, __s64 step, const char *values, __u64 count)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref);
	int rc = ADS_OK;

	for (; count && !rc; count--, values += s->ref.value_size, index = (__u32)(index + step))
		rc = ads_array_set(s->arena, s->ref, entries, index, values);
	return rc;
}

/* `count` elements by index, up to the first error. */
static int core_array_get_at(const core_structure *s, const __u32 *indices, char *values, __u64 count)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref);
	int rc = ADS_OK;

	for (; count && !rc; count--, values += s->ref.value_size)
		rc = ads_array_get(s->arena, s->ref, entries, *indices++, values);
	return rc;
}

/* The same to store them; *done: how many before the first error. */
static int core_array_set_at(const core_structure *s, const __u32 *indices, const char *values, __u64 count, __u64 *done)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref);

	for (; *done < count; ++*done) {
		int rc = ads_array_set(s->arena, s->ref, entries, indices[*done], values + *done * s->ref.value_size);

		if (rc)
			return rc;
	}
	return ADS_OK;
}

/*
 * Append records {index, value} behind the first `at`: up to `count` elements from *first on whose
 * chunks exist. *first is moved on. How many; 0: there are no more.
 */
static __s64 core_array_records(const core_structure *s, char *records, __u64 at, __u64 count, __u32 *first)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref), have = 0, size = s->ref.value_size;
	__u64 done;

	for (done = 0; done < count; done++, (*first)++, have--) {
		char *record = records + (at + done) * s->record_size;
		int rc = have ? ADS_OK : ads_array_next(s->arena, s->ref, first, &have);

		if (rc == ADS_ABSENT)
			break;
		if (!rc)
			rc = ads_array_get(s->arena, s->ref, entries, *first, record + s->value_at);
		if (rc)
			return rc;
		memcpy(record, first, 4);
		memset(record + 4, 0, s->value_at - 4);
		memset(record + s->value_at + size, 0, s->record_size - s->value_at - size);
	}
	return (__s64)done;
}

/* Work on one 8-byte field of an element, as core_hashmap_field(). To load makes no memory exist. */
static int core_array_field(const core_structure *s, __u32 index, __u32 at, int access, __u64 operand,
			    __u64 expected, __u64 *before)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref);
	int rc = access == CORE_LOAD ? ADS_OK : ads_may_change(s->arena, s->ref.offset);
	__u32 element = 0;

	if (rc)
		return rc;
	if (at % 8 || at + 8 > s->ref.value_size)
		return ADS_INVALID;
	if (access == CORE_LOAD && index < entries && !ads_array_exists(s->arena, s->ref, index)) {
		*before = 0;
		return ADS_OK;
	}
	rc = ads_array_find(s->arena, s->ref, entries, index, &element);
	if (!rc)
		*before = core_access_word(ads_at(s->arena, __u64, element + at), access, operand, expected);
	return rc;
}

static int core_array_next(const core_structure *s, __u32 *index, __u32 *count)
{
	CORE_OPEN(s);
	return ads_array_next(s->arena, s->ref, index, count);
}

static __s64 core_array_populated(const core_structure *s)
{
	CORE_OPEN(s);
	return ads_array_populated(s->arena, s->ref);
}

/*
 * --- views: members of records, at any address in the arena ---------------------------------
 *
 * A member is `at` bytes behind the address of its record, a user address. Each access checks
 * anew that the bytes are in the arena and populated. A member at a multiple of its size of 1, 2,
 * 4 or 8 bytes is read and written by one access, which acquires or releases: who reads a pointer
 * finds what was written before it was stored. Others are read and written piece by piece.
 */

/* What a read returns that could not be done. A member may have this value: core_view_check()
 * tells them apart. */
#define CORE_UNREAD 0x8e7c0de5eedbad0full

static ADS_INLINE int core_view_check(struct ads_arena *a, __u64 address, __u32 at, __u32 size)
{
	__u64 first = address - (__u64)(uintptr_t)a->base + at, word = first & ~7ull;

	if (core_is_closed(a))
		return CORE_CLOSED;
	return word >= ADS_MAX_SIZE || ads_bad(a, (__u32)word, first - word + size) ? ADS_DAMAGED : ADS_OK;
}

static ADS_INLINE int core_view_check_write(struct ads_arena *a, __u64 address, __u32 at, __u32 size)
{
	int rc = core_view_check(a, address, at, size);

	return rc || ads_writable(a) ? rc : ADS_READ_ONLY;
}

/* Whether an object of `size` bytes, a multiple of `align`, can be at an address: the address, or
 * ADS_INVALID, CORE_CLOSED. Arena addresses are positive. */
static ADS_INLINE __s64 core_view_place(struct ads_arena *a, __u64 address, __u32 size, __u32 align)
{
	int rc = core_view_check(a, address, 0, size);

	return rc == CORE_CLOSED ? rc : rc || address & (align - 1) ? ADS_INVALID : (__s64)address;
}

/* Copy any bytes: their aligned 8-byte words in one access each. */
static void core_view_copy_out(char *to, const char *from, __u32 size)
{
	const char *end = from + size;

	for (; from < end && (uintptr_t)from & 7; from++)
		*to++ = (char)ads_load_8((const __u8 *)from);
	for (; end - from >= 8; from += 8, to += 8) {
		__u64 word = ads_load((const __u64 *)(const void *)from);

		memcpy(to, &word, 8);
	}
	for (; from < end; from++)
		*to++ = (char)ads_load_8((const __u8 *)from);
}

static void core_view_copy_in(char *to, const char *from, __u32 size)
{
	char *end = to + size;

	for (; to < end && (uintptr_t)to & 7; to++)
		ads_store_8((__u8 *)to, (__u8)*from++);
	for (; end - to >= 8; to += 8, from += 8) {
		__u64 word;

		memcpy(&word, from, 8);
		ads_store((__u64 *)(void *)to, word);
	}
	for (; to < end; to++)
		ads_store_8((__u8 *)to, (__u8)*from++);
}

static int core_view_read(struct ads_arena *a, __u64 address, __u32 at, char *to, __u32 size)
{
	int rc = core_view_check(a, address, at, size);

	if (!rc)
		core_view_copy_out(to, (const char *)(uintptr_t)(address + at), size);
	return rc;
}

static int core_view_write(struct ads_arena *a, __u64 address, __u32 at, const char *from, __u32 size)
{
	int rc = core_view_check_write(a, address, at, size);

	if (!rc)
		core_view_copy_in((char *)(uintptr_t)(address + at), from, size);
	return rc;
}

/* core_member_8() and so on: the value of a member that is known to be there. */
#define CORE_MEMBER(bits, load, store)                                         \
	static ADS_INLINE __u##bits core_member_##bits(__u64 place)            \
	{                                                                      \
		__u##bits value;                                               \
									       \
		if (ADS_LIKELY(!(place & (sizeof(value) - 1))))                \
			return load((const __u##bits *)(uintptr_t)place);      \
		core_view_copy_out((char *)&value, (const char *)(uintptr_t)place, sizeof(value)); \
		return value;                                                  \
	}                                                                      \
	static ADS_INLINE void core_member_set_##bits(__u64 place, __u##bits value) \
	{                                                                      \
		if (ADS_LIKELY(!(place & (sizeof(value) - 1))))                \
			store((__u##bits *)(uintptr_t)place, value);           \
		else                                                           \
			core_view_copy_in((char *)(uintptr_t)place, (const char *)&value, sizeof(value)); \
	}

CORE_MEMBER(8, ads_load_8, ads_store_8)
CORE_MEMBER(16, ads_load_16, ads_store_16)
CORE_MEMBER(32, ads_load_32, ads_store_32)
CORE_MEMBER(64, ads_load_acquire, ads_store_release)

/* core_view_u8() and so on: read a number, CORE_UNREAD if that cannot be done, and write one. */
#define CORE_VIEW_NUMBER(name, type, bits, wide)                               \
	static wide core_view_##name(struct ads_arena *a, __u64 address, __u32 at) \
	{                                                                      \
		if (core_view_check(a, address, at, sizeof(type)))             \
			return (wide)CORE_UNREAD;                              \
		return (type)core_member_##bits(address + at);                 \
	}                                                                      \
	static int core_view_set_##name(struct ads_arena *a, __u64 address, __u32 at, type value) \
	{                                                                      \
		int rc = core_view_check_write(a, address, at, sizeof(type));  \
									       \
		if (!rc)                                                       \
			core_member_set_##bits(address + at, (__u##bits)value); \
		return rc;                                                     \
	}

CORE_VIEW_NUMBER(u8, __u8, 8, __s64)
CORE_VIEW_NUMBER(u16, __u16, 16, __s64)
CORE_VIEW_NUMBER(u32, __u32, 32, __s64)
CORE_VIEW_NUMBER(u64, __u64, 64, __u64)
CORE_VIEW_NUMBER(i8, __s8, 8, __s64)
CORE_VIEW_NUMBER(i16, __s16, 16, __s64)
CORE_VIEW_NUMBER(i32, __s32, 32, __s64)
CORE_VIEW_NUMBER(i64, __s64, 64, __s64)

/* Of a float: not a number if that cannot be done. */
static double core_view_f32(struct ads_arena *a, __u64 address, __u32 at)
{
	float value = __builtin_nanf("");
	__u32 bits;

	if (!core_view_check(a, address, at, sizeof(bits))) {
		bits = core_member_32(address + at);
		memcpy(&value, &bits, sizeof(bits));
	}
	return value;
}

static double core_view_f64(struct ads_arena *a, __u64 address, __u32 at)
{
	double value = __builtin_nan("");
	__u64 bits;

	if (!core_view_check(a, address, at, sizeof(bits))) {
		bits = core_member_64(address + at);
		memcpy(&value, &bits, sizeof(bits));
	}
	return value;
}

/* Follow a pointer: the address in it if an object of `size` and `align` can be there, 0 for
 * NULL; ADS_INVALID if none can, ADS_DAMAGED if the member itself is nowhere. */
static __s64 core_view_follow(struct ads_arena *a, __u64 address, __u32 at, __u32 size, __u32 align)
{
	int rc = core_view_check(a, address, at, 8);
	__u64 pointer;

	if (rc)
		return rc;
	pointer = core_member_64(address + at);
	return pointer ? core_view_place(a, pointer, size, align) : 0;
}

/*
 * Bit fields: `width` bits from bit `shift` of the byte at `at` on, in one aligned word or across
 * two. Writing exchanges each word for one in which only they differ, so that what others do to
 * its other bits at the same time is not lost. (C writes the whole unit: who assigns to a bit
 * field there may lose what is written here.)
 */
#define CORE_BYTES_OF(shift, width) (((shift) + (width) + 7) / 8)

static __u64 core_view_bits(struct ads_arena *a, __u64 address, __u32 at, __u32 shift, __u32 width)
{
	const __u64 *word = (const __u64 *)(uintptr_t)((address + at) & ~7ull);
	__u32 low = (__u32)((address + at) & 7) * 8 + shift;
	__u64 value;

	if (core_view_check(a, address, at, CORE_BYTES_OF(shift, width)))
		return CORE_UNREAD;
	value = ads_load_acquire(word) >> low;
	if (low + width > 64)
		value |= ads_load_acquire(word + 1) << (64 - low);
	return width < 64 ? value & ((1ull << width) - 1) : value;
}

static int core_word_put(__u64 *word, __u64 mask, __u64 value)
{
	__u64 found = ads_load(word);
	__u32 i;

	for (ads_loop(i)) {
		__u64 before = ads_cas(word, found, (found & ~mask) | (value & mask));

		if (before == found)
			return ADS_OK;
		found = before;
	}
	return ADS_BUDGET;
}

static int core_view_set_bits(struct ads_arena *a, __u64 address, __u32 at, __u32 shift, __u32 width,
			      __u64 value)
{
	__u64 *word = (__u64 *)(uintptr_t)((address + at) & ~7ull);
	__u64 mask = width < 64 ? (1ull << width) - 1 : ~0ull;
	__u32 low = (__u32)((address + at) & 7) * 8 + shift;
	int rc = core_view_check_write(a, address, at, CORE_BYTES_OF(shift, width));

	if (!rc)
		rc = core_word_put(word, mask << low, value << low);
	if (!rc && low + width > 64)
		rc = core_word_put(word + 1, mask >> (64 - low), value >> (64 - low));
	return rc;
}

/* Whether one 8-byte member can be worked on; ADS_INVALID if it is not aligned. */
static ADS_INLINE int core_view_check_word(struct ads_arena *a, __u64 address, __u32 at, int access)
{
	int rc = access == CORE_LOAD ? core_view_check(a, address, at, 8) : core_view_check_write(a, address, at, 8);

	return !rc && (address + at) & 7 ? ADS_INVALID : rc;
}

/* Work on it, as core_map_field(): what it was before, CORE_UNREAD if that cannot be done. */
static __u64 core_view_word(struct ads_arena *a, __u64 address, __u32 at, int access, __u64 operand, __u64 expected)
{
	if (core_view_check_word(a, address, at, access))
		return CORE_UNREAD;
	return core_access_word((__u64 *)(uintptr_t)(address + at), access, operand, expected);
}

/* Where the value of a key is: its offset, or an error. */
static __s64 core_map_place(const core_structure *s, const char *key)
{
	__u32 entry;
	int rc = s->kind == ADS_KIND_ORDEREDMAP ? core_orderedmap_find(s, key, &entry) : core_hashmap_find(s, key, &entry);

	return rc ? rc : (__s64)entry + ads_entry_value_offset(s->ref);
}

static __s64 core_list_place(const core_structure *s, __u64 order)
{
	__u32 entry;
	int rc = core_list_find(s, order, &entry);

	return rc ? rc : (__s64)entry + ads_entry_value_offset(s->ref);
}

/* Where an element is. Its memory comes into being, which a read-only arena refuses. */
static __s64 core_array_place(const core_structure *s, __u32 index)
{
	CORE_OPEN(s);
	__u32 entries = ads_array_entries(s->arena, s->ref), element;
	int rc;

	if (index < entries && !ads_array_exists(s->arena, s->ref, index) && !ads_writable(s->arena))
		return ADS_READ_ONLY;
	rc = ads_array_find(s->arena, s->ref, entries, index, &element);
	return rc ? rc : (__s64)element;
}

/* --- text ------------------------------------------------------------------------------------------ */

/* Text of the bytes before the first NUL; what is no UTF-8 becomes lone surrogates, as in file names. */
static PyObject *core_text(PyObject *self, PyObject *raw)
{
	Py_ssize_t size;
	char *bytes;

	(void)self;
	if (PyBytes_AsStringAndSize(raw, &bytes, &size))
		return NULL;
	return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strnlen(bytes, (size_t)size), "surrogateescape");
}

/* Of (address, bytes, count): a list of the records that core_ring_drain() and core_ring_read() left. */
static PyObject *core_records(PyObject *self, PyObject *arguments)
{
	unsigned long long address, left;
	Py_ssize_t count, i;
	const char *from;
	PyObject *records;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "KKn", &address, &left, &count))
		return NULL;
	from = (const char *)(uintptr_t)address;
	records = PyList_New(count);
	for (i = 0; records && i < count; i++) {
		PyObject *record = NULL;
		__u64 size = 0;

		if (left >= 8)
			memcpy(&size, from, 8);
		if (left >= 8 && size <= left - 8)
			record = PyBytes_FromStringAndSize(from + 8, (Py_ssize_t)size);
		else
			PyErr_SetString(PyExc_ValueError, "records end beyond the memory that they are in");
		if (!record || PyList_SetItem(records, i, record)) {
			Py_CLEAR(records);
			break;
		}
		size = CORE_RECORD(size) < left ? CORE_RECORD(size) : left;
		from += size;
		left -= size;
	}
	return records;
}

static void *core_records_method(void)
{
	static PyMethodDef method = {"records", core_records, METH_VARARGS, NULL};

	return &method;
}

/*
 * Of a list of bytes: (sizes of each, all in a row, size of the longest), as core_ring_push_many() takes
 * them; None if something else is among them.
 */
static PyObject *core_joined(PyObject *self, PyObject *records)
{
	Py_ssize_t count = PyList_Size(records), total = 0, longest = 0, i;
	PyObject *sizes, *data = NULL, *joined = NULL;
	char *to, *size_to;

	(void)self;
	for (i = 0; i < count; i++) {
		PyObject *record = PyList_GetItem(records, i);
		Py_ssize_t size;

		if (!PyBytes_CheckExact(record))
			Py_RETURN_NONE;
		size = PyBytes_Size(record);
		longest = size > longest ? size : longest;
		if (size > PY_SSIZE_T_MAX - total)
			return PyErr_NoMemory();
		total += size;
	}
	if (count < 0)
		return NULL;
	sizes = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(__u32));
	if (sizes)
		data = PyBytes_FromStringAndSize(NULL, total);
	if (data) {
		size_to = PyBytes_AsString(sizes);
		to = PyBytes_AsString(data);
		for (i = 0; i < count; i++) {
			PyObject *record = PyList_GetItem(records, i);
			Py_ssize_t length = PyBytes_Size(record);
			__u32 size = (__u32)length;

			memcpy(size_to + (size_t)i * sizeof(size), &size, sizeof(size));
			memcpy(to, PyBytes_AsString(record), (size_t)length);
			to += length;
		}
		joined = Py_BuildValue("(OOn)", sizes, data, longest);
	}
	Py_XDECREF(sizes);
	Py_XDECREF(data);
	return joined;
}

static void *core_joined_method(void)
{
	static PyMethodDef method = {"joined", core_joined, METH_O, NULL};

	return &method;
}

/* For PyCFunction_NewEx: a function that cffi calls gets no object, and gives none. */
static void *core_text_method(void)
{
	static PyMethodDef method = {"text", core_text, METH_O, NULL};

	return &method;
}

/* What this compiler makes of layout.h, to be compared with BTF and Python. */
#define FIELD(record, name) {#name, #record, sizeof(((struct record *)0)->name), __builtin_offsetof(struct record, name)}
#define RECORD(record) {"", #record, sizeof(struct record), 0}

static const core_layout layouts[] = {
	RECORD(ads_root), FIELD(ads_root, magic), FIELD(ads_root, abi_version), FIELD(ads_root, byte_order),
	FIELD(ads_root, size), FIELD(ads_root, base), FIELD(ads_root, creation_id), FIELD(ads_root, directory),
	FIELD(ads_root, flags), FIELD(ads_root, owners), FIELD(ads_root, strays), FIELD(ads_root, reaper), FIELD(ads_root, cursor), FIELD(ads_root, populated), FIELD(ads_root, no_memory),
	FIELD(ads_root, damaged),
	RECORD(ads_owner), FIELD(ads_owner, who), FIELD(ads_owner, where), FIELD(ads_owner, pool), FIELD(ads_owner, hand),
	RECORD(ads_shard), FIELD(ads_shard, free), FIELD(ads_shard, chunk), FIELD(ads_shard, spare),
	FIELD(ads_shard, enough),
	RECORD(ads_pool), FIELD(ads_pool, stride), FIELD(ads_pool, capacity), FIELD(ads_pool, spares), FIELD(ads_pool, grace),
	FIELD(ads_pool, own_spares), FIELD(ads_pool, carved), FIELD(ads_pool, epoch),
	FIELD(ads_pool, shards),
	RECORD(ads_counters), FIELD(ads_counters, full), FIELD(ads_counters, no_memory),
	FIELD(ads_counters, budget), FIELD(ads_counters, damaged), FIELD(ads_counters, dropped),
	RECORD(ads_header), FIELD(ads_header, kind), FIELD(ads_header, key_size), FIELD(ads_header, value_size),
	FIELD(ads_header, max_entries), FIELD(ads_header, seed), FIELD(ads_header, table), FIELD(ads_header, first),
	FIELD(ads_header, most), FIELD(ads_header, flags), FIELD(ads_header, removed), RECORD(ads_table), FIELD(ads_table, previous),
	RECORD(ads_collection), FIELD(ads_collection, header), FIELD(ads_collection, counters),
	FIELD(ads_collection, head), FIELD(ads_collection, pool),
	RECORD(ads_orderedmap), FIELD(ads_orderedmap, data), FIELD(ads_orderedmap, index), FIELD(ads_orderedmap, heads),
	RECORD(ads_entry), FIELD(ads_entry, link), FIELD(ads_entry, hash),
	RECORD(ads_node), FIELD(ads_node, link), FIELD(ads_node, order), FIELD(ads_node, list),
	RECORD(ads_intrusive), FIELD(ads_intrusive, header), FIELD(ads_intrusive, counters),
	FIELD(ads_intrusive, head),
	RECORD(ads_queue), FIELD(ads_queue, header), FIELD(ads_queue, counters), FIELD(ads_queue, tail),
	FIELD(ads_queue, head_seen), FIELD(ads_queue, head), FIELD(ads_queue, tail_seen),
	RECORD(ads_ring), FIELD(ads_ring, header), FIELD(ads_ring, counters), FIELD(ads_ring, committed),
	FIELD(ads_ring, head_seen), FIELD(ads_ring, producer), FIELD(ads_ring, tail), FIELD(ads_ring, head),
	FIELD(ads_ring, tail_seen),
	RECORD(ads_array), FIELD(ads_array, header), FIELD(ads_array, counters),
	RECORD(ads_mpmc), FIELD(ads_mpmc, collection), FIELD(ads_mpmc, tail), FIELD(ads_mpmc, head),
	RECORD(ads_directory_value), FIELD(ads_directory_value, kind), FIELD(ads_directory_value, offset),
	FIELD(ads_directory_value, schema_offset), FIELD(ads_directory_value, schema_size),
};

static __u32 core_layouts(const core_layout **to)
{
	*to = layouts;
	return sizeof(layouts) / sizeof(layouts[0]);
}

#ifdef ADS_POINTS
/* The test build: every shared operation counts, and one of them may kill the process. */
static __u64 core_point_count, core_point_stop;

/* Dies before shared operation number `stop_at` (from 1), as hard as a process can die. */
static void core_point(int kind, const volatile void *word)
{
	(void)kind;
	(void)word;
	if (++core_point_count == core_point_stop)
		kill(getpid(), SIGKILL);
}

static void core_set_points(__u64 stop_at)
{
	core_point_count = 0;
	core_point_stop = stop_at;
	ads_point_hook = core_point;
}

static __u64 core_points(void)
{
	return core_point_count;
}
#endif

/*
 * What Python calls looks at the mark before it starts, as CORE_OPEN does, and again when it is done
 * where many records or plain memory were read. The wrappers of cffi follow and call these.
 */
#define core_ended_of(a, call)                                                 \
	((__typeof__(call))(core_is_closed(a) ? CORE_CLOSED : core_ended((a), (call))))
#define core_root(a, ...) core_ended_of(a, core_root(a, ##__VA_ARGS__))
#define core_read(a, ...) core_ended_of(a, core_read(a, ##__VA_ARGS__))
#define core_write(a, ...) core_ended_of(a, core_write(a, ##__VA_ARGS__))
#define core_structure_flags(a, ...) core_ended_of(a, core_structure_flags(a, ##__VA_ARGS__))
#define ads_arena_populate(a, ...) core_ended_of(a, ads_arena_populate(a, ##__VA_ARGS__))
#define ads_arena_provision(a, ...) core_ended_of(a, ads_arena_provision(a, ##__VA_ARGS__))
#define ads_alloc(a, ...) core_ended_of(a, ads_alloc(a, ##__VA_ARGS__))
#define ads_hashmap_create(a, ...) core_ended_of(a, ads_hashmap_create(a, ##__VA_ARGS__))
#define ads_orderedmap_create(a, ...) core_ended_of(a, ads_orderedmap_create(a, ##__VA_ARGS__))
#define ads_ring_create(a, ...) core_ended_of(a, ads_ring_create(a, ##__VA_ARGS__))
#define ads_rings_create(a, ...) core_ended_of(a, ads_rings_create(a, ##__VA_ARGS__))
#define core_rings_open(r, ...) core_ended_by(r, core_rings_open(r, __VA_ARGS__))
#define core_rings_push_many(r, ...) core_ended_by(r, core_rings_push_many(r, __VA_ARGS__))
#define ads_queue_create(a, ...) core_ended_of(a, ads_queue_create(a, ##__VA_ARGS__))
#define ads_array_create(a, ...) core_ended_of(a, ads_array_create(a, ##__VA_ARGS__))
#define ads_mpmc_create(a, ...) core_ended_of(a, ads_mpmc_create(a, ##__VA_ARGS__))
#define core_intrusive_create(a, ...) core_ended_of(a, core_intrusive_create(a, ##__VA_ARGS__))
#define ads_structure_check(a, ...) core_ended_of(a, ads_structure_check(a, ##__VA_ARGS__))
#define ads_owner_reap(a, ...) core_ended_of(a, ads_owner_reap(a, ##__VA_ARGS__))
#define ads_directory_add(a, ...) core_ended_of(a, ads_directory_add(a, ##__VA_ARGS__))
#define ads_directory_describe(a, ...) core_ended_of(a, ads_directory_describe(a, ##__VA_ARGS__))
#define ads_directory_find(a, ...) core_ended_of(a, ads_directory_find(a, ##__VA_ARGS__))
#define ads_directory_remove(a, ...) core_ended_of(a, ads_directory_remove(a, ##__VA_ARGS__))
#define ads_directory_reclaim(a, ...) core_ended_of(a, ads_directory_reclaim(a, ##__VA_ARGS__))
#define ads_collection_reclaim(a, ...) core_ended_of(a, ads_collection_reclaim(a, ##__VA_ARGS__))
#define ads_directory_next(a, ...) core_ended_of(a, ads_directory_next(a, ##__VA_ARGS__))
#define ads_directory_grow(a, ...) core_ended_of(a, ads_directory_grow(a, ##__VA_ARGS__))
#define ads_collection_check(a, ...) core_ended_of(a, ads_collection_check(a, ##__VA_ARGS__))
#define ads_collection_check_live(a, ...) core_ended_of(a, ads_collection_check_live(a, ##__VA_ARGS__))
#define ads_directory_check_live(a, ...) core_ended_of(a, ads_directory_check_live(a, ##__VA_ARGS__))
#define ads_directory_check(a, ...) core_ended_of(a, ads_directory_check(a, ##__VA_ARGS__))
#define ads_heap_check(a, ...) core_ended_of(a, ads_heap_check(a, ##__VA_ARGS__))
#define core_ended_by(s, call) ((__typeof__(call))core_ended((s)->arena, (call)))
#define core_scan(s, ...) core_ended_by(s, core_scan(s, __VA_ARGS__))
#define core_sweep_on(s, ...) core_ended_by(s, core_sweep_on(s, __VA_ARGS__))
#define core_sweep_start(s, ...) core_ended_by(s, core_sweep_start(s, __VA_ARGS__))
#define core_scan_start(s, ...) core_ended_by(s, core_scan_start(s, __VA_ARGS__))
#define core_scan_after(s, ...) core_ended_by(s, core_scan_after(s, __VA_ARGS__))
#define core_get_many(s, ...) core_ended_by(s, core_get_many(s, __VA_ARGS__))
#define core_update_many(s, ...) core_ended_by(s, core_update_many(s, __VA_ARGS__))
#define core_list_push_many(s, ...) core_ended_by(s, core_list_push_many(s, __VA_ARGS__))
#define core_delete_many(s, ...) core_ended_by(s, core_delete_many(s, __VA_ARGS__))
#define core_array_get(s, ...) core_ended_by(s, core_array_get(s, __VA_ARGS__))
#define core_array_set(s, ...) core_ended_by(s, core_array_set(s, __VA_ARGS__))
#define core_array_get_many(s, ...) core_ended_by(s, core_array_get_many(s, __VA_ARGS__))
#define core_array_set_many(s, ...) core_ended_by(s, core_array_set_many(s, __VA_ARGS__))
#define core_array_get_at(s, ...) core_ended_by(s, core_array_get_at(s, __VA_ARGS__))
#define core_array_set_at(s, ...) core_ended_by(s, core_array_set_at(s, __VA_ARGS__))
#define core_array_records(s, ...) core_ended_by(s, core_array_records(s, __VA_ARGS__))
#define core_array_field(s, ...) core_ended_by(s, core_array_field(s, __VA_ARGS__))
#define core_queue_pop_many(s, ...) core_ended_by(s, core_queue_pop_many(s, __VA_ARGS__))
#define core_queue_push_many(s, ...) core_ended_by(s, core_queue_push_many(s, __VA_ARGS__))
#define core_queue_read(s, ...) core_ended_by(s, core_queue_read(s, __VA_ARGS__))
#define core_ring_drain(s, ...) core_ended_by(s, core_ring_drain(s, __VA_ARGS__))
#define core_ring_read(s, ...) core_ended_by(s, core_ring_read(s, __VA_ARGS__))
#define core_pool_place(s, ...) core_ended_by(s, core_pool_place(s, __VA_ARGS__))
#define core_pool_get(s, ...) core_ended_by(s, core_pool_get(s, __VA_ARGS__))
#define core_pool_set(s, ...) core_ended_by(s, core_pool_set(s, __VA_ARGS__))
#define core_pool_alloc(s, ...) core_ended_by(s, core_pool_alloc(s, __VA_ARGS__))
#define core_pool_free(s, ...) core_ended_by(s, core_pool_free(s, __VA_ARGS__))
#define core_pool_walk(s, ...) core_ended_by(s, core_pool_walk(s, __VA_ARGS__))
#define core_intrusive_scan(s, ...) core_ended_by(s, core_intrusive_scan(s, __VA_ARGS__))
#define core_array_next(s, ...) core_ended_by(s, core_array_next(s, __VA_ARGS__))
