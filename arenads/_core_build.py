"""Build the C core: the headers in include/arenads as a cffi extension.

Nothing is implemented here. The C source below only gives the inline operations of the
headers an address: one function an operation, with the common key sizes compiled as
constants, as BPF programs have them; and loops over them for bulk work.
"""

from __future__ import annotations

import cffi

MODULE = "arenads._core"

DECLARATIONS = """
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;
#define ADS_ABI_VERSION ...
#define ADS_PAGE_SIZE ...
#define ADS_MAX_SIZE ...
#define ADS_NAME_SIZE ...
#define ADS_MAX_KEY ...
#define ADS_MAX_VALUE ...
#define ADS_ROOT_OFFSET ...
#define ADS_READONLY ...
#define ADS_KIND_HASHMAP ...
#define ADS_KIND_LIST ...
#define ADS_KIND_QUEUE ...
#define ADS_ABSENT ...
#define ADS_NO_MEMORY ...
#define ADS_EXISTS ...
#define ADS_INVALID ...
#define ADS_FULL ...
#define ADS_READ_ONLY ...
#define ADS_BUDGET ...
#define ADS_WRONG_ABI ...
#define ADS_WRONG_ORDER ...
#define ADS_BASE_TAKEN ...
#define ADS_DAMAGED ...
#define ADS_WRONG_TYPE ...
#define ADS_ANY ...
#define ADS_INSERT ...
#define ADS_REPLACE ...

struct ads_arena {
    char *base;
    __u64 size;
    __u64 limit;
    __u64 damaged_at;
    int fd;
    __u32 flags;
    ...;
};
struct ads_ref { __u32 offset, key_size, value_size; };
struct ads_walk { ...; };
struct ads_scan { struct ads_walk walk; __u64 hash; ...; };
struct ads_directory_value { __u32 kind, offset, schema_offset, schema_size; };
struct ads_root {
    __u64 magic;
    __u32 abi_version, byte_order;
    __u64 size, base, creation_id, directory, cursor, populated, no_memory, damaged;
    ...;
};
struct ads_counters { __u64 full, no_memory, budget, damaged; ...; };
struct ads_check_report {
    __u64 live, deleted, free, unused, carved, leaked, repaired, errors, error_at;
};

int ads_arena_create(struct ads_arena *, __u64 size, __u64 base, int fd, __u64 populate);
int ads_arena_probe(int fd, __u64 *base, __u64 *size, int *kernel, __u32 *map_type);
int ads_arena_open(struct ads_arena *, int fd, int readonly);
int ads_arena_remap(struct ads_arena *);
void ads_arena_close(struct ads_arena *);
int ads_arena_populate(struct ads_arena *, __u64 end);
int ads_arena_provision(struct ads_arena *, __u64 distance);
int ads_alloc(struct ads_arena *, __u64 bytes, __u32 *offset);
int ads_bpf_arena_create(__u64 size, __u64 base, const char *name);
int ads_bpf_pin(int fd, const char *path);
int ads_bpf_get(const char *path);
int ads_bpf_map_by_id(__u32 id);
int ads_collection_create(struct ads_arena *, __u32 kind, struct ads_ref *, __u32 entries);
int ads_queue_create(struct ads_arena *, struct ads_ref *, __u32 slots);
int ads_structure_check(struct ads_arena *, __u32 kind, struct ads_ref);
int ads_directory_add(struct ads_arena *, const char *name, struct ads_directory_value *);
int ads_directory_find(struct ads_arena *, const char *name, struct ads_directory_value *);
int ads_directory_next(struct ads_arena *, struct ads_scan *, char *name,
                       struct ads_directory_value *);
int ads_collection_check(struct ads_arena *, __u32 kind, struct ads_ref, int repair,
                         struct ads_check_report *);

typedef struct { struct ads_arena *arena; struct ads_ref ref; __u32 kind; } core_structure;
typedef struct { char name[64]; char record[64]; __u32 size, offset; } core_layout;

struct ads_root *core_root(struct ads_arena *);
int core_read(struct ads_arena *, __u32 offset, void *to, __u32 size);
int core_write(struct ads_arena *, __u32 offset, const void *from, __u32 size);
__u32 core_max_entries(const core_structure *);
int core_counters(const core_structure *, struct ads_counters *);
__u32 core_len(const core_structure *);
__u32 core_value_offset(const core_structure *);
__u32 core_layouts(const core_layout **);

int core_hashmap_find(const core_structure *, const char *key, __u32 *entry);
int core_hashmap_get(const core_structure *, const char *key, char *value);
int core_hashmap_update(const core_structure *, const char *key, const char *value, int mode);
int core_hashmap_delete(const core_structure *, const char *key);
int core_list_find(const core_structure *, __u64 order, __u32 *entry);
int core_list_get(const core_structure *, __u64 order, char *value);
int core_list_update(const core_structure *, __u64 order, const char *value, int mode);
int core_list_delete(const core_structure *, __u64 order);
int core_list_push(const core_structure *, const char *value, __u64 *order);
int core_queue_push(const core_structure *, const char *value);
int core_queue_pop(const core_structure *, char *value);
__s64 core_queue_push_many(const core_structure *, const char *values, __u64 count);
__s64 core_queue_pop_many(const core_structure *, char *values, __u64 count);
__u64 core_queue_len(const core_structure *);

int core_scan_start(const core_structure *, struct ads_scan *);
__s64 core_scan(const core_structure *, struct ads_scan *, const char *last_key, char *records,
                  __u64 count);
int core_field_add(const core_structure *, __u32 entry, __u32 at, __u64 by,
                   __u64 *before);
int core_field_load(const core_structure *, __u32 entry, __u32 at, __u64 *value);
int core_field_store(const core_structure *, __u32 entry, __u32 at, __u64 value);
int core_field_cas(const core_structure *, __u32 entry, __u32 at, __u64 expected,
                   __u64 wanted, __u64 *found);
"""

POINTS_DECLARATIONS = """
void core_set_points(__u64 stop_at, int verbose);
__u64 core_points(void);
"""

SOURCE = r"""
#include <arenads/user.h>

typedef struct { struct ads_arena *arena; struct ads_ref ref; __u32 kind; } core_structure;
typedef struct { char name[64]; char record[64]; __u32 size, offset; } core_layout;

static struct ads_root *core_root(struct ads_arena *a)
{
	return ads_root_of(a);
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

static __u32 core_max_entries(const core_structure *s)
{
	return ads_at(s->arena, struct ads_header, s->ref.offset)->max_entries;
}

static int core_counters(const core_structure *s, struct ads_counters *to)
{
	struct ads_collection *c = ads_at(s->arena, struct ads_collection, s->ref.offset);

	if (ads_bad(s->arena, s->ref.offset, sizeof(struct ads_ring)))
		return ADS_DAMAGED;
	to->full = ads_load(&c->counters.full);
	to->no_memory = ads_load(&c->counters.no_memory);
	to->budget = ads_load(&c->counters.budget);
	to->damaged = ads_load(&c->counters.damaged);
	return ADS_OK;
}

static __u32 core_len(const core_structure *s)
{
	return ads_collection_len(s->arena, s->ref);
}

static __u32 core_value_offset(const core_structure *s)
{
	return ads_entry_value_offset(s->ref);
}

/* The common key sizes as constants: the loops over words disappear. */
#define CORE_BY_KEY(call)                                                      \
	struct ads_ref ref = s->ref;                                           \
	if (ref.key_size == 8) {                                               \
		ref.key_size = 8;                                              \
		return call;                                                   \
	}                                                                      \
	if (ref.key_size == 4) {                                               \
		ref.key_size = 4;                                              \
		return call;                                                   \
	}                                                                      \
	return call

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

static int core_hashmap_delete(const core_structure *s, const char *key)
{
	CORE_BY_KEY(ads_hashmap_delete(s->arena, ref, key));
}

static int core_list_find(const core_structure *s, __u64 order, __u32 *entry)
{
	return ads_list_find(s->arena, s->ref, order, entry);
}

static int core_list_get(const core_structure *s, __u64 order, char *value)
{
	return ads_list_get(s->arena, s->ref, order, value);
}

static int core_list_update(const core_structure *s, __u64 order, const char *value, int mode)
{
	__u32 entry;

	return ads_list_update(s->arena, s->ref, order, value, (enum ads_update_mode)mode, &entry);
}

static int core_list_delete(const core_structure *s, __u64 order)
{
	return ads_list_delete(s->arena, s->ref, order);
}

static int core_list_push(const core_structure *s, const char *value, __u64 *order)
{
	__u32 entry;

	return ads_list_push(s->arena, s->ref, value, order, &entry);
}

static int core_queue_push(const core_structure *s, const char *value)
{
	return ads_queue_push(s->arena, s->ref, value);
}

static int core_queue_pop(const core_structure *s, char *value)
{
	return ads_queue_pop(s->arena, s->ref, value);
}

/* How many were pushed before the first that failed; its error if that was the first. */
static __s64 core_queue_push_many(const core_structure *s, const char *values, __u64 count)
{
	__u64 i;

	for (i = 0; i < count; i++) {
		int rc = ads_queue_push(s->arena, s->ref, values + i * s->ref.value_size);

		if (rc)
			return i ? (__s64)i : rc;
	}
	return (__s64)count;
}

static __s64 core_queue_pop_many(const core_structure *s, char *values, __u64 count)
{
	__u64 i;

	for (i = 0; i < count; i++) {
		int rc = ads_queue_pop(s->arena, s->ref, values + i * s->ref.value_size);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : rc;
	}
	return (__s64)count;
}

static __u64 core_queue_len(const core_structure *s)
{
	return ads_queue_len(s->arena, s->ref);
}

static int core_scan_start(const core_structure *s, struct ads_scan *scan)
{
	if (s->kind == ADS_KIND_HASHMAP)
		return ads_hashmap_scan(s->arena, s->ref, scan);
	return ads_scan_start(s->arena, scan, ads_list_head(s->ref));
}

/*
 * Up to `count` records {hash:8, key, value; key and value rounded up to 8 bytes}. Fewer at the
 * end; the error if there was one before the first.
 */
static __s64 core_scan(const core_structure *s, struct ads_scan *scan, const char *last_key, char *records,
			 __u64 count)
{
	__u32 value_at = ads_entry_value_offset(s->ref) - 8;
	__u32 size = value_at + ads_round_up(s->ref.value_size, 8);
	__u64 i;

	for (i = 0; i < count; i++, records += size) {
		__u32 entry;
		int rc = ads_scan_next(s->arena, scan, s->ref, last_key, records + 8, records + value_at, &entry);

		if (rc)
			return i || rc == ADS_ABSENT ? (__s64)i : ads_count(s->arena, s->ref.offset, rc);
		memcpy(records, &scan->hash, 8);
		last_key = records + 8;
	}
	return (__s64)count;
}

/* An aligned 8-byte field of the value in `entry`, NULL if there is none. */
static __u64 *core_field(const core_structure *s, __u32 entry, __u32 at)
{
	if (at % 8 || at + 8 > s->ref.value_size || ads_bad(s->arena, entry, ads_entry_stride(s->ref)))
		return 0;
	return ads_at(s->arena, __u64, entry + ads_entry_value_offset(s->ref) + at);
}

static int core_field_add(const core_structure *s, __u32 entry, __u32 at, __u64 by, __u64 *before)
{
	__u64 *field = core_field(s, entry, at);

	if (!field || !ads_writable(s->arena))
		return field ? ADS_READ_ONLY : ADS_INVALID;
	*before = ads_add(field, by);
	return ADS_OK;
}

static int core_field_load(const core_structure *s, __u32 entry, __u32 at, __u64 *value)
{
	__u64 *field = core_field(s, entry, at);

	if (!field)
		return ADS_INVALID;
	*value = ads_load_acquire(field);
	return ADS_OK;
}

static int core_field_store(const core_structure *s, __u32 entry, __u32 at, __u64 value)
{
	__u64 *field = core_field(s, entry, at);

	if (!field || !ads_writable(s->arena))
		return field ? ADS_READ_ONLY : ADS_INVALID;
	ads_store_release(field, value);
	return ADS_OK;
}

static int core_field_cas(const core_structure *s, __u32 entry, __u32 at, __u64 expected, __u64 wanted,
			  __u64 *found)
{
	__u64 *field = core_field(s, entry, at);

	if (!field || !ads_writable(s->arena))
		return field ? ADS_READ_ONLY : ADS_INVALID;
	*found = ads_cas(field, expected, wanted);
	return ADS_OK;
}

/* What this compiler makes of layout.h, to be compared with BTF and Python. */
#define FIELD(record, name) {#name, #record, sizeof(((struct record *)0)->name), __builtin_offsetof(struct record, name)}
#define RECORD(record) {"", #record, sizeof(struct record), 0}

static const core_layout layouts[] = {
	RECORD(ads_root), FIELD(ads_root, magic), FIELD(ads_root, abi_version), FIELD(ads_root, byte_order),
	FIELD(ads_root, size), FIELD(ads_root, base), FIELD(ads_root, creation_id), FIELD(ads_root, directory),
	FIELD(ads_root, flags), FIELD(ads_root, cursor), FIELD(ads_root, populated), FIELD(ads_root, no_memory),
	FIELD(ads_root, damaged),
	RECORD(ads_shard), FIELD(ads_shard, free), FIELD(ads_shard, chunk),
	RECORD(ads_pool), FIELD(ads_pool, stride), FIELD(ads_pool, capacity), FIELD(ads_pool, carved),
	FIELD(ads_pool, shards),
	RECORD(ads_counters), FIELD(ads_counters, full), FIELD(ads_counters, no_memory),
	FIELD(ads_counters, budget), FIELD(ads_counters, damaged),
	RECORD(ads_header), FIELD(ads_header, kind), FIELD(ads_header, key_size), FIELD(ads_header, value_size),
	FIELD(ads_header, max_entries), FIELD(ads_header, seed), FIELD(ads_header, table), FIELD(ads_header, shift),
	RECORD(ads_collection), FIELD(ads_collection, header), FIELD(ads_collection, counters),
	FIELD(ads_collection, head), FIELD(ads_collection, pool),
	RECORD(ads_entry), FIELD(ads_entry, link), FIELD(ads_entry, hash),
	RECORD(ads_ring), FIELD(ads_ring, header), FIELD(ads_ring, counters), FIELD(ads_ring, tail),
	FIELD(ads_ring, head_seen), FIELD(ads_ring, head), FIELD(ads_ring, tail_seen),
	RECORD(ads_directory_value), FIELD(ads_directory_value, kind), FIELD(ads_directory_value, offset),
	FIELD(ads_directory_value, schema_offset), FIELD(ads_directory_value, schema_size),
};

static __u32 core_layouts(const core_layout **to)
{
	*to = layouts;
	return sizeof(layouts) / sizeof(layouts[0]);
}
"""

POINTS_SOURCE = r"""
#include <signal.h>
#include <stdio.h>

static __u64 core_point_count, core_point_stop;

/* Dies before shared operation number `stop_at` (from 1), as hard as a process can die. */
static void core_point(int kind, const volatile void *word)
{
	(void)kind;
	(void)word;
	if (++core_point_count == core_point_stop)
		kill(getpid(), SIGKILL);
}

static void core_set_points(__u64 stop_at, int verbose)
{
	(void)verbose;
	core_point_count = 0;
	core_point_stop = stop_at;
	ads_point_hook = core_point;
}

static __u64 core_points(void)
{
	return core_point_count;
}
"""


def builder(*, points: bool = False) -> cffi.FFI:
    """Return the FFI of the extension, ready for `emit_c_code`.

    With `points` it is the test build, in which every shared operation counts and
    one of them may kill the process.
    """
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS + (POINTS_DECLARATIONS if points else ""))
    source = ("#define ADS_POINTS 1\n" if points else "") + SOURCE + (POINTS_SOURCE if points else "")
    ffi.set_source(MODULE, source)
    return ffi
