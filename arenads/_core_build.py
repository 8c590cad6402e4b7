"""Describe the C core (_core.c, _arrow.c) to cffi, which makes the extension `arenads._core` of it."""

from __future__ import annotations

from pathlib import Path

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
#define ADS_DIRECTORY_ENTRIES ...
#define ADS_OWNERS_MOST ...
#define ADS_ROOT_OFFSET ...
#define ADS_READONLY ...
#define ADS_CLOSED ...
#define ADS_IN_KERNEL ...
#define ADS_KIND_HASHMAP ...
#define ADS_KIND_LIST ...
#define ADS_KIND_QUEUE ...
#define ADS_KIND_POOL ...
#define ADS_KIND_SET ...
#define ADS_KIND_ORDEREDMAP ...
#define ADS_KIND_ARRAY ...
#define ADS_KIND_RING ...
#define ADS_RINGS_MOST ...
#define ADS_KIND_MPMC ...
#define ADS_KIND_INTRUSIVE ...
#define ADS_GRACE ...
#define ADS_OVERWRITE ...
#define ADS_SIGNED ...
#define ADS_BYTES ...
#define ADS_LIVES ...
#define ADS_ABSENT ...
#define ADS_NO_MEMORY ...
#define ADS_EXISTS ...
#define ADS_LINKED ...
#define ADS_INVALID ...
#define ADS_FULL ...
#define ADS_READ_ONLY ...
#define ADS_BUDGET ...
#define ADS_WRONG_ABI ...
#define ADS_WRONG_ORDER ...
#define ADS_BASE_TAKEN ...
#define ADS_DAMAGED ...
#define ADS_REMOVED ...
#define ADS_TOO_LONG ...
#define ADS_NOT_RESERVED ...
#define ADS_WRONG_TYPE ...
#define ADS_ANY ...
#define CORE_CLOSED ...
#define CORE_UNFIT ...
#define CORE_PAGE ...
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
struct ads_ref { __u32 offset, key_size, value_size, flags; };
struct ads_header { __u32 kind, key_size, value_size, max_entries, flags; ...; };
struct ads_walk { ...; };
struct ads_scan { struct ads_walk walk; __u64 hash; ...; };
struct ads_ring_draft { __u64 ticket, at; ...; };
struct ads_rings_draft { ...; };
struct ads_rings { __u32 count, flags; __u32 each[...]; };
struct ads_ring_cursor { __u64 at, end; ...; };
struct ads_directory_value { __u32 kind, offset, schema_offset, schema_size; };
struct ads_root {
    __u64 magic;
    __u32 abi_version, byte_order;
    __u64 size, base, creation_id, directory, cursor, populated, no_memory, damaged, strays;
    ...;
};
struct ads_counters { __u64 full, no_memory, budget, damaged, dropped; ...; };
struct ads_check_report {
    __u64 live, deleted, free, waiting, unused, carved, leaked, repaired, errors, error_at,
          moving;
};
struct ads_heap_report { __u64 blocks, unnamed, unnamed_bytes, writers, errors, error_at; };

int ads_arena_create(struct ads_arena *, __u64 size, __u64 base, int fd, __u64 populate);
int ads_arena_probe(int fd, __u64 *base, __u64 *size, int *kernel, __u32 *map_type);
int ads_arena_open(struct ads_arena *, int fd, int readonly);
int ads_arena_remap(struct ads_arena *);
void ads_arena_mark_closed(struct ads_arena *);
void ads_arena_retire(struct ads_arena *);
void ads_arena_release(struct ads_arena *);
int ads_arena_populate(struct ads_arena *, __u64 end);
int ads_arena_provision(struct ads_arena *, __u64 distance);
int ads_alloc(struct ads_arena *, __u64 bytes, __u32 *offset);
int ads_bpf_arena_create(__u64 size, __u64 base, const char *name);
int ads_bpf_pin(int fd, const char *path);
int ads_bpf_get(const char *path);
struct ads_bpf_map_info { __u32 type; char name[16]; ...; };
int ads_bpf_map_info(int fd, struct ads_bpf_map_info *);
#define ADS_MAP_TYPE_ARENA ...
#define ADS_MAGIC ...
int ads_bpf_map_by_id(__u32 id);
int ads_hashmap_create(struct ads_arena *, __u32 kind, struct ads_ref *, __u32 entries,
                       __u32 first);
int ads_orderedmap_create(struct ads_arena *, struct ads_ref *, __u32 max_entries);
int ads_ring_create(struct ads_arena *, struct ads_ref *, __u32 bytes);
int ads_rings_create(struct ads_arena *, const char *name, __u32 count, __u32 bytes, __u32 flags);
int ads_queue_create(struct ads_arena *, struct ads_ref *, __u32 slots);
int ads_array_create(struct ads_arena *, struct ads_ref *, __u32 max_entries);
int ads_mpmc_create(struct ads_arena *, struct ads_ref *, __u32 slots);
int ads_structure_check(struct ads_arena *, __u32 kind, struct ads_ref);
__s64 ads_owner_reap(struct ads_arena *, __u32 *threads);
void ads_owner_leave(struct ads_arena *);
int ads_directory_add(struct ads_arena *, const char *name, struct ads_directory_value *);
int ads_directory_describe(struct ads_arena *, const void *schema, __u32 size,
                           struct ads_directory_value *);
int ads_directory_find(struct ads_arena *, const char *name, struct ads_directory_value *);
int ads_directory_remove(struct ads_arena *, const char *name);
__s64 ads_directory_reclaim(struct ads_arena *);
__s64 ads_collection_reclaim(struct ads_arena *, struct ads_ref);
int ads_grace_available(void);
int ads_directory_next(struct ads_arena *, struct ads_scan *, char *name,
                       struct ads_directory_value *);
int ads_directory_grow(struct ads_arena *);
int ads_collection_check(struct ads_arena *, __u32 kind, struct ads_ref, int repair,
                         struct ads_check_report *);
int ads_collection_check_live(struct ads_arena *, __u32 kind, struct ads_ref,
                              struct ads_check_report *);
int ads_directory_check(struct ads_arena *, int repair, struct ads_check_report *);
int ads_directory_check_live(struct ads_arena *, struct ads_check_report *);
int ads_heap_check(struct ads_arena *, struct ads_heap_report *);
__u32 ads_check_writers(struct ads_arena *, __u32 *threads, __u32 most);

typedef struct {
    struct ads_arena *arena; struct ads_ref ref; __u32 kind, key_width, value_at, record_size;
    __u32 *nodes, *chunks, node_count;
} core_structure;
typedef struct { char name[64]; char record[64]; __u32 size, offset; } core_layout;

int core_root(struct ads_arena *, struct ads_root *to);
int core_read(struct ads_arena *, __u32 offset, void *to, __u32 size);
int core_write(struct ads_arena *, __u32 offset, const void *from, __u32 size);
int core_structure_flags(struct ads_arena *, __u32 offset);
__u32 core_max_entries(const core_structure *);
int core_counters(const core_structure *, struct ads_counters *);
__s64 core_len(const core_structure *);
__u32 core_layouts(const core_layout **);

__s64 core_hashmap_buckets(const core_structure *);
int core_hashmap_find(const core_structure *, const char *key, __u32 *entry);
int core_map_find_unsigned(const core_structure *, __u64 key, __u32 *entry);
int core_map_find_signed(const core_structure *, __s64 key, __u32 *entry);
int core_map_get_unsigned(const core_structure *, __u64 key, char *value);
int core_map_get_signed(const core_structure *, __s64 key, char *value);
int core_map_pop_unsigned(const core_structure *, __u64 key, char *value);
int core_map_pop_signed(const core_structure *, __s64 key, char *value);
int core_hashmap_get(const core_structure *, const char *key, char *value);
int core_hashmap_update(const core_structure *, const char *key, const char *value, int mode);
int core_hashmap_pop(const core_structure *, const char *key, char *value);
int core_list_find(const core_structure *, __u64 order, __u32 *entry);
int core_list_get(const core_structure *, __u64 order, char *value);
int core_list_update(const core_structure *, __u64 order, const char *value, int mode);
int core_list_pop(const core_structure *, __u64 order, char *value);
int core_list_push(const core_structure *, const char *value, __u64 *order);
int core_list_push_many(const core_structure *, const char *values, __u64 *orders, __u64 count,
    __u64 *done);
int core_orderedmap_find(const core_structure *, const char *key, __u32 *entry);
int core_orderedmap_get(const core_structure *, const char *key, char *value);
int core_orderedmap_update(const core_structure *, const char *key, const char *value, int mode);
int core_orderedmap_pop(const core_structure *, const char *key, char *value);
int core_orderedmap_pop_first(const core_structure *, char *key, char *value);
int core_orderedmap_scan_from(const core_structure *, struct ads_scan *, const char *key, int after);
int core_list_first(const core_structure *, __u64 *order, char *value);
int core_list_pop_first(const core_structure *, __u64 *order, char *value);
__s64 core_pool_place(const core_structure *, __u64 address, int used);
int core_pool_get(const core_structure *, __u64 address, char *value);
int core_pool_set(const core_structure *, __u64 address, const char *value);
__s64 core_pool_alloc(const core_structure *, const char *value);
int core_pool_free(const core_structure *, __u64 address);
int core_node_is_taken(const core_structure *, __u32 node);
__u32 core_node_list(const core_structure *, __u32 node);
int core_intrusive_create(struct ads_arena *, struct ads_ref *, const core_structure *pool,
                          __u32 node);
int core_intrusive_pool(const core_structure *, __u32 *pool, __u32 *node);
int core_intrusive_push(const core_structure *, __u32 node, __u64 *order);
int core_intrusive_insert(const core_structure *, __u64 order, __u32 node);
int core_intrusive_remove(const core_structure *, __u32 node);
int core_intrusive_pop(const core_structure *, __u64 order, __u32 *node);
int core_intrusive_pop_first(const core_structure *, __u64 *order, __u32 *node);
int core_intrusive_find(const core_structure *, __u64 order, __u32 *node);
int core_intrusive_first(const core_structure *, __u64 *order, __u32 *node);
int core_intrusive_contains(const core_structure *, __u32 node, __u64 *order);
__s64 core_intrusive_len(const core_structure *);
__s64 core_intrusive_scan(const core_structure *, struct ads_scan *, __u64 *pairs, __u64 count);
__u32 core_entry_stride(const core_structure *);
int core_queue_push(const core_structure *, const char *value);
int core_queue_pop(const core_structure *, char *value);
__s64 core_queue_push_many(const core_structure *, const char *values, __u64 count);
__s64 core_queue_pop_many(const core_structure *, char *values, __u64 count);
__s64 core_queue_len(const core_structure *);
typedef struct { ...; } core_fifo_cursor;
int core_queue_walk(const core_structure *, core_fifo_cursor *);
__s64 core_queue_read(const core_structure *, core_fifo_cursor *, char *values, __u64 count);
__s64 core_structure_bytes(const core_structure *, __u32 schema);
struct ads_pool_walk { ...; };
__s64 core_pool_walk(const core_structure *, struct ads_pool_walk *, char *records, __u64 count);
int core_ring_push(const core_structure *, const char *data, __u32 size);
__s64 core_ring_push_many(const core_structure *, const char *data, const __u32 *sizes,
                          __u64 count);
int core_ring_reserve(const core_structure *, __u32 size, struct ads_ring_draft *, __u32 *place);
int core_ring_commit(const core_structure *, struct ads_ring_draft *, int publish);
int core_ring_publish(const core_structure *);
typedef struct { struct ads_arena *arena; struct ads_rings rings; } core_rings;
int core_rings_open(core_rings *, const char *name);
int core_rings_push(const core_rings *, const char *data, __u32 size);
__s64 core_rings_push_many(const core_rings *, const char *data, const __u32 *sizes, __u64 count);
int core_rings_reserve(const core_rings *, __u32 size, struct ads_rings_draft *, __u32 *place);
int core_rings_submit(const core_rings *, struct ads_rings_draft *);
int core_rings_discard(const core_rings *, struct ads_rings_draft *);
__s64 core_rings_taken(const core_rings *);
__s64 core_rings_free(const core_rings *);
int core_is_registered(struct ads_arena *);
__s64 core_ring_pop(const core_structure *, char *to, __u32 room, __u32 *size);
__s64 core_ring_drain(const core_structure *, char *to, __u64 room, __u64 count);
__s64 core_ring_waiting(const core_structure *);
__s64 core_ring_count(const core_structure *);
int core_ring_walk(const core_structure *, struct ads_ring_cursor *);
__s64 core_ring_read(const core_structure *, struct ads_ring_cursor *, char *to, __u64 room,
                     __u64 count, __u32 *needed);

int core_scan_start(const core_structure *, struct ads_scan *);
int core_scan_after(const core_structure *, struct ads_scan *, __u64 order);
__s64 core_scan(const core_structure *, struct ads_scan *, const char *last_key, const char *stop, char *records,
                  __u64 count);
typedef struct { ...; } core_sweep;
int core_sweep_start(const core_structure *, core_sweep *, const char *start, const char *stop);
__s64 core_sweep_on(const core_structure *, core_sweep *, char *records, __u64 at, __u64 count);
typedef struct {
    __u32 kind, children, at, size, count, bit, bits, is_signed, metadata_size;
    const char *format, *name, *metadata;
    const __u64 *values;
    const char *names;
} core_column;
#define ARROW_STRUCT ...
#define ARROW_LIST ...
#define ARROW_COPY ...
#define ARROW_NUMBER ...
#define ARROW_BOOL ...
#define ARROW_TEXT ...
#define ARROW_ENUM ...
void *core_arrow_schema(const core_column *, __u32 count);
void *core_arrow_stream(const core_column *, __u32 nodes, char *records, __u64 count, __u32 size,
                        __u64 batch);
void core_arrow_schema_end(void *capsule);
void core_arrow_stream_end(void *capsule);
char *core_block_resize(char *bytes, __u64 size);
void core_block_release(char *bytes);
int core_get_many(const core_structure *, const char *keys, char *values, char *found,
                  __u64 count);
int core_update_many(const core_structure *, const char *keys, const char *values, int mode, __u64 count,
                     __u64 *done);
int core_delete_many(const core_structure *, const char *keys, __u64 count, __u64 *done,
                     __u64 *deleted);
int core_map_field(const core_structure *, const char *key, __u32 at, int access,
                       __u64 operand, __u64 expected, __u64 *before);
int core_map_field_unsigned(const core_structure *, __u64 key, __u32 at, int access,
                            __u64 operand, __u64 expected, __u64 *before);
int core_map_field_signed(const core_structure *, __s64 key, __u32 at, int access,
                          __u64 operand, __u64 expected, __u64 *before);
int core_array_get(const core_structure *, __u32 index, char *value);
int core_array_set(const core_structure *, __u32 index, const char *value);
int core_array_get_many(const core_structure *, __u32 index, __s64 step, char *values,
                        __u64 count);
int core_array_set_many(const core_structure *, __u32 index, __s64 step, const char *values,
                        __u64 count);
int core_array_get_at(const core_structure *, const __u32 *indices, char *values, __u64 count);
int core_array_set_at(const core_structure *, const __u32 *indices, const char *values,
                      __u64 count, __u64 *done);
__s64 core_array_records(const core_structure *, char *records, __u64 at, __u64 count, __u32 *first);
int core_array_field(const core_structure *, __u32 index, __u32 at, int access, __u64 operand,
                     __u64 expected, __u64 *before);
__s64 core_array_populated(const core_structure *);
__s64 core_map_place(const core_structure *, const char *key);
__s64 core_list_place(const core_structure *, __u64 order);
__s64 core_array_place(const core_structure *, __u32 index);
__s64 core_view_u8(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_u8(struct ads_arena *, __u64 address, __u32 at, unsigned char value);
__s64 core_view_u16(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_u16(struct ads_arena *, __u64 address, __u32 at, unsigned short value);
__s64 core_view_u32(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_u32(struct ads_arena *, __u64 address, __u32 at, __u32 value);
__u64 core_view_u64(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_u64(struct ads_arena *, __u64 address, __u32 at, __u64 value);
__s64 core_view_i8(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_i8(struct ads_arena *, __u64 address, __u32 at, signed char value);
__s64 core_view_i16(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_i16(struct ads_arena *, __u64 address, __u32 at, short value);
__s64 core_view_i32(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_i32(struct ads_arena *, __u64 address, __u32 at, int value);
__s64 core_view_i64(struct ads_arena *, __u64 address, __u32 at);
int core_view_set_i64(struct ads_arena *, __u64 address, __u32 at, __s64 value);
double core_view_f32(struct ads_arena *, __u64 address, __u32 at);
double core_view_f64(struct ads_arena *, __u64 address, __u32 at);
__u64 core_view_bits(struct ads_arena *, __u64 address, __u32 at, __u32 shift, __u32 width);
int core_view_set_bits(struct ads_arena *, __u64 address, __u32 at, __u32 shift, __u32 width,
                       __u64 value);
int core_view_check(struct ads_arena *, __u64 address, __u32 at, __u32 size);
__s64 core_view_place(struct ads_arena *, __u64 address, __u32 size, __u32 align);
__s64 core_view_follow(struct ads_arena *, __u64 address, __u32 at, __u32 size, __u32 align);
int core_view_read(struct ads_arena *, __u64 address, __u32 at, char *to, __u32 size);
int core_view_write(struct ads_arena *, __u64 address, __u32 at, const char *from, __u32 size);
int core_view_check_word(struct ads_arena *, __u64 address, __u32 at, int access);
__u64 core_view_word(struct ads_arena *, __u64 address, __u32 at, int access, __u64 operand,
                     __u64 expected);
#define CORE_UNREAD ...
int core_array_next(const core_structure *, __u32 *index, __u32 *count);
void *core_text_method(void);
void *core_records_method(void);
void *core_joined_method(void);
#define CORE_EXCHANGE ...
#define CORE_LOAD ...
#define CORE_STORE ...
#define CORE_ADD ...
#define CORE_CAS ...
"""

POINTS_DECLARATIONS = """
void core_set_points(__u64 stop_at);
__u64 core_points(void);
"""


def builder(*, points: bool = False) -> cffi.FFI:
    """Return the FFI of the extension, ready for `emit_c_code`.

    With `points` it is the test build, in which every shared operation counts and
    one of them may kill the process.
    """
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS + (POINTS_DECLARATIONS if points else ""))
    sources = (Path(__file__).with_name(name) for name in ("_core.c", "_arrow.c"))
    source = "\n".join(path.read_text() for path in sources)
    ffi.set_source(MODULE, ("#define ADS_POINTS 1\n" if points else "") + source)
    return ffi
