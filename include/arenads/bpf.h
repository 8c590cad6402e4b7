/* SPDX-License-Identifier: MIT */
/*
 * bpf.h - the one header of a BPF program that uses arena structures.
 *
 *	#include <arenads/bpf.h>
 *
 *	struct traffic { __u64 calls; __u64 bytes; };
 *
 *	ADS_ARENA(64 * ADS_MIB);
 *	ADS_HASHMAP(stats, __u32, struct traffic, 10240);
 *
 *	SEC("tp_btf/sys_enter") int on_enter(__u64 *ctx)
 *	{
 *		__u32 pid = bpf_get_current_pid_tgid() >> 32;
 *		struct traffic zero = {};
 *		struct traffic __arena *s = stats_lookup_or_insert(&pid, &zero);
 *
 *		if (s)
 *			ads_add(&s->calls, 1);
 *		return 0;
 *	}
 *
 * A declaration defines the operations below, specialised for its types: NAME_lookup(),
 * NAME_insert() and so on. The loader finds the declarations through BTF, creates the
 * structures and writes their places into the program before it is loaded.
 *
 * ADS_ARENA comes first. Programs that include vmlinux.h or <bpf/bpf_helpers.h> themselves do
 * so before this header. A key may have no padding, since padding is part of what is compared.
 *
 * Compiled for the host (ADS_NATIVE) the same source runs in process, see native.h.
 */
#ifndef ARENADS_BPF_H
#define ARENADS_BPF_H

#include "arena.h"
#include "array.h"
#include "hashmap.h"
#include "intrusive.h"
#include "mpmc.h"
#include "orderedmap.h"
#include "queue.h"
#include "ring.h"
#include "rings.h"

#if ADS_BPF
#include "helpers.h"
#else
#include "native.h"
#endif

#define ADS_BPF_MAP_TYPE_ARENA 33
#define ADS_BPF_F_MMAPABLE 1024

/* Without: one error for each use of the arena in what a declaration defines, and none says what is missing. */
#define ADS_IS_FIRST enum { ADS_ARENA_COMES_BEFORE_STRUCTURES = 1 }
#define ADS_IS_NOT_FIRST _Static_assert(ADS_ARENA_COMES_BEFORE_STRUCTURES, "");

#if ADS_BPF
/* The arena of this program, at most one. Its size counts when the loader creates it. */
#define ADS_ARENA(bytes)                                                       \
	ADS_IS_FIRST;                                                          \
	struct {                                                               \
		int(*type)[ADS_BPF_MAP_TYPE_ARENA];                            \
		int(*map_flags)[ADS_BPF_F_MMAPABLE];                           \
		int(*max_entries)[((bytes) + ADS_PAGE_SIZE - 1) / ADS_PAGE_SIZE]; \
	} arena __attribute__((section(".maps"), used))

#define ADS_DECLARATION ADS_IS_NOT_FIRST const volatile
#define ADS_SECTION __attribute__((section(".rodata.arenads"), used))

/* A program that only follows arena pointers must name the arena map somewhere. */
#define ads_here()                                                             \
	({                                                                     \
		asm volatile("" ::"r"(&arena));                                \
		(struct ads_arena *)0;                                         \
	})
/* The same in a place that a program never comes to without passing ads_here() elsewhere. */
#define ads_near() ((struct ads_arena *)0)
#else
#define ADS_ARENA(bytes) ADS_IS_FIRST; ADS_EXPORT struct ads_arena arena
#define ADS_DECLARATION ADS_IS_NOT_FIRST ADS_EXPORT volatile
#define ADS_SECTION
#define ads_here() (&arena)
#define ads_near() (&arena)
#endif

/* The pointer that may be stored in a record and followed by either side. */
#if ADS_BPF
#define ads_user_form(pointer) ((__typeof__(pointer))(void *)(unsigned long)(__u32)(unsigned long)(pointer))
#else
#define ads_user_form(pointer) (pointer)
#endif

/* A pointer of which the compiler may believe what its type says of its alignment. A function
 * that is not inlined would copy from it byte by byte: BPF must not read across words. */
#define ads_aligned(pointer) ((__typeof__(pointer))__builtin_assume_aligned(pointer, __alignof__(*(pointer))))
/* Whether a caller has given a pointer, of which the same is believed from then on. */
#define ads_given(pointer) (((pointer) = ads_aligned(pointer)) != 0)

/* Structures keep records at places aligned to 8 bytes. BPF has no wider access; compilers for the
 * native engine copy with instructions that insist on what a type says. */
#if ADS_BPF
#define ADS_ALIGNED(T)
#else
#define ADS_ALIGNED(T)                                                         \
	ADS_STATIC_ASSERT(__alignof__(T) <= 8, "the native engine has no place for a type of an alignment above 8 bytes");
#endif

/* In the spirit of BTF-defined maps: numbers are carried as array lengths, types as pointers,
 * to an array of one, because for a plain pointer compilers leave the members out of BTF.
 * Read by the loader, which writes `handle`. */
#define ADS_DECLARE_AS(name, kind_number, records, entries, flag_bits)         \
	ADS_DECLARATION struct {                                               \
		int(*kind)[kind_number];                                       \
		records                                                        \
		int(*max_entries)[entries];                                    \
		int(*flags)[1 + (flag_bits)];                                  \
		__u64 handle;                                                  \
	} name ADS_SECTION
#define ADS_DECLARE_KEYED(name, kind_number, K, V, entries, flag_bits)         \
	ADS_ALIGNED(K)                                                         \
	ADS_ALIGNED(V)                                                         \
	ADS_DECLARE_AS(name, kind_number, K(*key)[1]; V(*value)[1];, entries, flag_bits)
#define ADS_DECLARE(name, kind_number, V, entries)                             \
	ADS_ALIGNED(V)                                                         \
	ADS_DECLARE_AS(name, kind_number, V(*value)[1];, entries, 0)
/* Optional flags at the end of a declaration: ADS_FLAGS() is 0. */
#define ADS_FLAGS(...) (0 + __VA_ARGS__ + 0)

/*
 * Hash map NAME from K to V. A last argument ADS_GRACE makes deleted and replaced entries wait for a grace
 * period (reclaim.h), so that a pointer from lookup stays that key's while the program runs.
 *
 *	V __arena *NAME_lookup(const K *key)
 *		Pointer to the value in the arena, NULL if absent: test it, the verifier does
 *		not insist for arena pointers. Fields may be changed in
 *		place with ads_add(), ads_cas(), ads_store(): aligned 8-byte ones, atomically.
 *	V __arena *NAME_lookup_or_insert(const K *key, const V *init)
 *		As lookup; an absent key is inserted with *init. NULL: full or no memory.
 *	int NAME_find(const K *key, V __arena **value)
 *		As lookup, with the reason: 0, ADS_ABSENT, ADS_BUDGET.
 *	int NAME_get(const K *key, V *value)
 *		A copy of the value, whole, as it was stored.
 *	int NAME_insert(const K *key, const V *value)	ADS_EXISTS if present
 *	int NAME_replace(const K *key, const V *value)	ADS_ABSENT if absent
 *	int NAME_update(const K *key, const V *value)	either
 *	int NAME_delete(const K *key)			ADS_ABSENT if absent
 *	int NAME_pop(const K *key, V *value)		delete, and get what it was
 *	__u32 NAME_len(void)
 *	int NAME_next(struct NAME_cursor *cursor, V *value)
 *		Iteration: start with a zeroed cursor; cursor->key is the key. ADS_ABSENT at
 *		the end, ADS_BUDGET if the loop budget ran out before it.
 *
 * What changes the map is a global function in BPF: the verifier looks at it once and not at
 * each call. For that it wants keys and values in memory that may be written to, such as
 * variables on the stack, not in constants of the object.
 */
#define ADS_HASHMAP(name, K, V, entries, ...)                                  \
	ADS_DECLARE_KEYED(name, ADS_KIND_HASHMAP, K, V, entries, ADS_FLAGS(__VA_ARGS__)); \
	struct name##_cursor {                                                 \
		struct ads_scan scan;                                          \
		K key;                                                         \
	};                                                                     \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, sizeof(K), sizeof(V), ADS_FLAGS(__VA_ARGS__)}; \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE int name##_find(const K *key, V __arena **value)     \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 entry = 0;                                               \
		int rc = ads_hashmap_find(a, name##_ref(), ads_aligned(key), &entry); \
		(void)a;                                                       \
		*value = ads_at(a, V, entry + ads_entry_value_offset(name##_ref())); \
		return rc;                                                     \
	}                                                                      \
	static ADS_INLINE V __arena *name##_lookup(const K *key)               \
	{                                                                      \
		V __arena *value;                                              \
		return name##_find(key, &value) ? (V __arena *)0 : value;      \
	}                                                                      \
	static ADS_INLINE int name##_get(const K *key, V *value)               \
	{                                                                      \
		return ads_hashmap_get(ads_here(), name##_ref(), ads_aligned(key), ads_aligned(value)); \
	}                                                                      \
	ADS_GLOBAL int name##_insert(const K *key, const V *value)    \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		__u32 entry;                                                   \
		return ads_hashmap_update(ads_here(), name##_ref(), key, value, ADS_INSERT, &entry); \
	}                                                                      \
	ADS_GLOBAL int name##_replace(const K *key, const V *value)   \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		__u32 entry;                                                   \
		return ads_hashmap_update(ads_here(), name##_ref(), key, value, ADS_REPLACE, &entry); \
	}                                                                      \
	ADS_GLOBAL int name##_update(const K *key, const V *value)    \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		__u32 entry;                                                   \
		return ads_hashmap_update(ads_here(), name##_ref(), key, value, ADS_ANY, &entry); \
	}                                                                      \
	ADS_GLOBAL __u32 name##_insert_entry(const K *key, const V *value) \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return 0;                                              \
		__u32 entry = 0;                                               \
		int rc = ads_hashmap_update(ads_here(), name##_ref(), key, value, ADS_INSERT, &entry); \
		return rc == ADS_OK || rc == ADS_EXISTS ? entry : 0;           \
	}                                                                      \
	static ADS_INLINE V __arena *name##_lookup_or_insert(const K *key, const V *init) \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		V __arena *value;                                              \
		__u32 entry;                                                   \
		(void)a;                                                       \
		if (ADS_LIKELY(name##_find(key, &value) == ADS_OK))            \
			return value;                                          \
		entry = name##_insert_entry(key, init);                        \
		return entry ? ads_at(a, V, entry + ads_entry_value_offset(name##_ref())) : (V __arena *)0; \
	}                                                                      \
	ADS_GLOBAL int name##_delete(const K *key)                    \
	{                                                                      \
		if (!ads_given(key))                                           \
			return ADS_INVALID;                                    \
		return ads_hashmap_delete(ads_here(), name##_ref(), key);      \
	}                                                                      \
	ADS_GLOBAL int name##_pop(const K *key, V *value)                      \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		return ads_hashmap_pop(ads_here(), name##_ref(), key, value);  \
	}                                                                      \
	static ADS_NOINLINE __u32 name##_len(void)                             \
	{                                                                      \
		return ads_collection_len(ads_here(), name##_ref());           \
	}                                                                      \
	static ADS_NOINLINE int name##_next(struct name##_cursor *cursor, V *value) \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		K key;                                                         \
		__u32 entry;                                                   \
		int rc = 0;                                                    \
		cursor = ads_aligned(cursor);                                  \
		if (!cursor->scan.walk.start)                                  \
			rc = ads_hashmap_scan(a, name##_ref(), &cursor->scan); \
		if (!rc)                                                       \
			rc = ads_scan_next(a, &cursor->scan, name##_ref(), &cursor->key, &key, ads_aligned(value), &entry); \
		if (!rc)                                                       \
			cursor->key = key;                                     \
		return rc;                                                     \
	}                                                                      \
	struct name##_cursor

/* What an ordered map has to know of its keys' type: a signed or unsigned integer, else bytes. */
#define ADS_KEY_FLAGS(K)                                                       \
	(ADS_LIVES | _Generic(*(K *)0,                                         \
			      char: ADS_BYTES,                                 \
			      signed char: ADS_SIGNED,                         \
			      short: ADS_SIGNED,                               \
			      int: ADS_SIGNED,                                 \
			      long: ADS_SIGNED,                                \
			      long long: ADS_SIGNED,                           \
			      unsigned char: 0,                                \
			      unsigned short: 0,                               \
			      unsigned int: 0,                                 \
			      unsigned long: 0,                                \
			      unsigned long long: 0,                           \
			      default: ADS_BYTES))

/*
 * Ordered map NAME from K, an integer or a struct of one array of bytes, to V. ADS_GRACE as for hash maps.
 * The way down, store and remove are global functions, which the verifier looks at once for a program; those of
 * integer keys serve all such maps. Storing uses 450 bytes of stack or less.
 *
 *	lookup, find, get, insert, replace, update, delete, pop: as for hash maps
 *	int NAME_first(K *key, V *value)	the lowest key; ADS_ABSENT if there is none
 *	int NAME_pop_first(K *key, V *value)	delete it, and get what it was
 *	int NAME_lower_bound(K *key, V *value)	the first key that is not below *key, into it
 *	int NAME_seek(struct NAME_cursor *cursor, const K *key)
 *		Begin an iteration there: the next is the first key that is not below it.
 *	int NAME_next(struct NAME_cursor *cursor, V *value)
 *		Iteration in order: start with a zeroed cursor, or NAME_seek(); cursor->key is
 *		the key. ADS_ABSENT at the end, ADS_BUDGET if the loop budget ran out before it.
 *	__u32 NAME_len(void)
 */
#define ADS_ORDEREDMAP(name, K, V, entries, ...)                               \
	ADS_DECLARE_KEYED(name, ADS_KIND_ORDEREDMAP, K, V, entries,            \
			  ADS_KEY_FLAGS(K) + ADS_FLAGS(__VA_ARGS__));          \
	struct name##_cursor {                                                 \
		struct ads_scan scan;                                          \
		K key;                                                         \
	};                                                                     \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle,                      \
				      ADS_KEY_FLAGS(K) & ADS_BYTES ? sizeof(K) : 0, sizeof(V), \
				      ADS_KEY_FLAGS(K) + ADS_FLAGS(__VA_ARGS__)}; \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE __u64 name##_order(const K *key)                     \
	{                                                                      \
		return ADS_KEY_FLAGS(K) & ADS_BYTES ? ads_order_of_bytes(key, sizeof(K)) \
						    : ads_order_of_integer(key, sizeof(K) < 8 ? sizeof(K) : 8, \
									   ADS_KEY_FLAGS(K)); \
	}                                                                      \
	static ADS_INLINE void name##_key(K *key, __u64 order)                 \
	{                                                                      \
		if (!(ADS_KEY_FLAGS(K) & ADS_BYTES))                           \
			ads_integer_of_order(key, sizeof(K) < 8 ? sizeof(K) : 8, ADS_KEY_FLAGS(K), order); \
	}                                                                      \
	ADS_GLOBAL __u64 name##_place_to_read(const K *key)                    \
	{                                                                      \
		struct ads_walk w;                                             \
		if (!ads_given(key))                                           \
			return (__u64)(__u32)ADS_INVALID << 32;                \
		return ads_orderedmap_descend(ads_here(), name##_ref(), name##_order(key), key, ADS_READ, 0, &w); \
	}                                                                      \
	ADS_GLOBAL __u64 name##_place_to_write(const K *key, __u32 how, struct ads_walk *to) \
	{                                                                      \
		if (!ads_given(key) || !ads_given(to))                         \
			return (__u64)(__u32)ADS_INVALID << 32;                \
		return ads_orderedmap_descend(ads_here(), name##_ref(), name##_order(key), key, ADS_WRITE, how, to); \
	}                                                                      \
	static ADS_INLINE __u64 name##_place(struct ads_arena *a, const struct ads_ref *ref, __u64 order, \
					     const void *key, __u32 how, struct ads_walk *to) \
	{                                                                      \
		if (!(ADS_KEY_FLAGS(K) & ADS_BYTES))                           \
			return ads_orderedmap_place_integer(a, ref, order, key, how, to); \
		return how & ADS_SEEK_WRITE ? name##_place_to_write((const K *)key, how, to) \
					    : name##_place_to_read((const K *)key); \
	}                                                                      \
	static ADS_INLINE int name##_seek_key(struct ads_arena *a, const struct ads_ref *ref, __u64 order, \
					      const void *key, __u32 how, struct ads_walk *to) \
	{                                                                      \
		return ads_orderedmap_seek_by(a, ref, name##_place, order, key, how, to); \
	}                                                                      \
	ADS_GLOBAL __u64 name##_raise_level(const K *key, __u32 level, struct ads_walk *w) \
	{                                                                      \
		struct ads_ref ref = name##_ref();                             \
		if (!ads_given(key) || !ads_given(w))                          \
			return 0;                                              \
		return ads_orderedmap_raise_level(ads_here(), &ref, name##_seek_key, name##_order(key), key, level, \
						  w);                          \
	}                                                                      \
	static ADS_INLINE __u64 name##_raise_key(struct ads_arena *a, const struct ads_ref *ref, __u64 order, \
						 const void *key, __u32 level, struct ads_walk *w) \
	{                                                                      \
		if (ADS_KEY_FLAGS(K) & ADS_BYTES)                              \
			return name##_raise_level((const K *)key, level, w);   \
		return ads_orderedmap_raise_integer(a, ref, order, key, level, w); \
	}                                                                      \
	ADS_GLOBAL __s64 name##_find_entry(const K *key)                       \
	{                                                                      \
		__u32 entry = 0;                                               \
		int rc;                                                        \
		if (!ads_given(key))                                           \
			return ADS_INVALID;                                    \
		rc = ads_orderedmap_find(ads_here(), name##_ref(), name##_seek_key, name##_order(key), key, &entry); \
		return rc ? (__s64)rc : (__s64)entry;                          \
	}                                                                      \
	static ADS_INLINE int name##_find(const K *key, V __arena **value)     \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__s64 entry = name##_find_entry(key);                          \
		(void)a;                                                       \
		*value = ads_at(a, V, (__u32)entry + ads_entry_value_offset(name##_ref())); \
		return entry > 0 ? ADS_OK : (int)entry;                        \
	}                                                                      \
	static ADS_INLINE V __arena *name##_lookup(const K *key)               \
	{                                                                      \
		V __arena *value;                                              \
		return name##_find(key, &value) ? (V __arena *)0 : value;      \
	}                                                                      \
	ADS_GLOBAL int name##_get(const K *key, V *value)                      \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		return ads_orderedmap_get(ads_here(), name##_ref(), name##_seek_key, name##_order(key), key, value); \
	}                                                                      \
	ADS_GLOBAL int name##_store(const K *key, const V *value, __u32 mode, struct ads_walk *w) \
	{                                                                      \
		if (!ads_given(key) || !ads_given(value) || !ads_given(w))     \
			return ADS_INVALID;                                    \
		return ads_orderedmap_store(ads_here(), name##_ref(), name##_seek_key, name##_order(key), key, value, \
					    (enum ads_update_mode)mode, w);    \
	}                                                                      \
	ADS_GLOBAL int name##_store_and_build(const K *key, const V *value, __u32 mode) \
	{                                                                      \
		struct ads_walk w = ads_walk_from(0);                          \
		int rc;                                                        \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		rc = name##_store(key, value, mode, &w);                       \
		if (!rc)                                                       \
			ads_orderedmap_build(ads_here(), name##_ref(), name##_raise_key, name##_order(key), key, &w); \
		return rc;                                                     \
	}                                                                      \
	static ADS_INLINE int name##_insert(const K *key, const V *value)      \
	{                                                                      \
		return name##_store_and_build(key, value, ADS_INSERT);         \
	}                                                                      \
	static ADS_INLINE int name##_replace(const K *key, const V *value)     \
	{                                                                      \
		return name##_store_and_build(key, value, ADS_REPLACE);        \
	}                                                                      \
	static ADS_INLINE int name##_update(const K *key, const V *value)      \
	{                                                                      \
		return name##_store_and_build(key, value, ADS_ANY);            \
	}                                                                      \
	ADS_GLOBAL int name##_remove(const K *key, V *value)                   \
	{                                                                      \
		if (!ads_given(key))                                           \
			return ADS_INVALID;                                    \
		return ads_orderedmap_pop(ads_here(), name##_ref(), name##_seek_key, name##_order(key), key, \
					  ads_aligned(value));                 \
	}                                                                      \
	static ADS_INLINE int name##_delete(const K *key)                      \
	{                                                                      \
		return name##_remove(key, 0);                                  \
	}                                                                      \
	static ADS_INLINE int name##_pop(const K *key, V *value)               \
	{                                                                      \
		return value ? name##_remove(key, value) : ADS_INVALID;        \
	}                                                                      \
	ADS_GLOBAL int name##_pop_first(K *key, V *value)                      \
	{                                                                      \
		__u64 order = 0;                                               \
		int rc;                                                        \
		if (!ads_given(key) || !ads_given(value))                      \
			return ADS_INVALID;                                    \
		rc = ads_orderedmap_pop_first(ads_here(), name##_ref(), name##_seek_key, &order, key, value); \
		if (!rc)                                                       \
			name##_key(key, order);                                \
		return rc;                                                     \
	}                                                                      \
	ADS_GLOBAL int name##_seek(struct name##_cursor *cursor, const K *key) \
	{                                                                      \
		if (!ads_given(cursor) || !ads_given(key))                     \
			return ADS_INVALID;                                    \
		cursor->key = *key;                                            \
		return ads_orderedmap_scan_from(ads_here(), name##_ref(), name##_seek_key, &cursor->scan, \
						name##_order(key), key, 0);    \
	}                                                                      \
	ADS_GLOBAL int name##_next(struct name##_cursor *cursor, V *value)     \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		K key = {0};                                                   \
		__u32 entry;                                                   \
		int rc = 0;                                                    \
		if (!ads_given(cursor) || !ads_given(value))                   \
			return ADS_INVALID;                                    \
		if (!cursor->scan.walk.start)                                  \
			rc = ads_orderedmap_scan(a, name##_ref(), &cursor->scan); \
		if (!rc)                                                       \
			rc = ads_orderedmap_next(a, name##_ref(), name##_seek_key, &cursor->scan, &cursor->key, &key, value, \
						 &entry);                      \
		if (!rc) {                                                     \
			name##_key(&key, cursor->scan.hash);                   \
			cursor->key = key;                                     \
		}                                                              \
		return rc;                                                     \
	}                                                                      \
	static ADS_NOINLINE int name##_first(K *key, V *value)                 \
	{                                                                      \
		struct name##_cursor cursor = {0};                             \
		int rc = name##_next(&cursor, value);                          \
		if (!rc)                                                       \
			*key = cursor.key;                                     \
		return rc;                                                     \
	}                                                                      \
	static ADS_NOINLINE int name##_lower_bound(K *key, V *value)           \
	{                                                                      \
		struct name##_cursor cursor = {0};                             \
		int rc = name##_seek(&cursor, key);                            \
		if (!rc)                                                       \
			rc = name##_next(&cursor, value);                      \
		if (!rc)                                                       \
			*key = cursor.key;                                     \
		return rc;                                                     \
	}                                                                      \
	static ADS_NOINLINE __u32 name##_len(void)                             \
	{                                                                      \
		return ads_collection_len(ads_here(), name##_ref());           \
	}                                                                      \
	struct name##_cursor

/*
 * Set NAME of K: a hash map without values. ADS_GRACE as there.
 *
 *	int NAME_contains(const K *key)		1 or 0; ADS_BUDGET
 *	int NAME_insert(const K *key)		ADS_EXISTS if present
 *	int NAME_delete(const K *key)		ADS_ABSENT if absent
 *	__u32 NAME_len(void)
 *	int NAME_next(struct NAME_cursor *cursor)
 *		Iteration: start with a zeroed cursor; cursor->key is the key. ADS_ABSENT at
 *		the end, ADS_BUDGET if the loop budget ran out before it.
 */
#define ADS_SET(name, K, entries, ...)                                         \
	ADS_ALIGNED(K)                                                         \
	ADS_DECLARE_AS(name, ADS_KIND_SET, K(*key)[1];, entries, ADS_FLAGS(__VA_ARGS__)); \
	struct name##_cursor {                                                 \
		struct ads_scan scan;                                          \
		K key;                                                         \
	};                                                                     \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, sizeof(K), 0, ADS_FLAGS(__VA_ARGS__)}; \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE int name##_contains(const K *key)                    \
	{                                                                      \
		__u32 entry;                                                   \
		int rc = ads_hashmap_find(ads_here(), name##_ref(), ads_aligned(key), &entry); \
		return rc == ADS_OK ? 1 : rc == ADS_ABSENT ? 0 : rc;           \
	}                                                                      \
	ADS_GLOBAL int name##_insert(const K *key)                             \
	{                                                                      \
		__u32 entry;                                                   \
		if (!ads_given(key))                                           \
			return ADS_INVALID;                                    \
		return ads_hashmap_update(ads_here(), name##_ref(), key, key, ADS_INSERT, &entry); \
	}                                                                      \
	ADS_GLOBAL int name##_delete(const K *key)                             \
	{                                                                      \
		if (!ads_given(key))                                           \
			return ADS_INVALID;                                    \
		return ads_hashmap_delete(ads_here(), name##_ref(), key);      \
	}                                                                      \
	static ADS_NOINLINE __u32 name##_len(void)                             \
	{                                                                      \
		return ads_collection_len(ads_here(), name##_ref());           \
	}                                                                      \
	static ADS_NOINLINE int name##_next(struct name##_cursor *cursor)      \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		K key;                                                         \
		__u32 entry;                                                   \
		int rc = 0;                                                    \
		cursor = ads_aligned(cursor);                                  \
		if (!cursor->scan.walk.start)                                  \
			rc = ads_hashmap_scan(a, name##_ref(), &cursor->scan); \
		if (!rc)                                                       \
			rc = ads_scan_next(a, &cursor->scan, name##_ref(), &cursor->key, &key, 0, &entry); \
		if (!rc)                                                       \
			cursor->key = key;                                     \
		return rc;                                                     \
	}                                                                      \
	struct name##_cursor

/*
 * List NAME of V, ordered by a 64-bit number.
 *
 *	int NAME_push(const V *value, __u64 *order)	at the head; *order tells its order
 *	V __arena *NAME_lookup(__u64 order)		NULL if absent
 *	int NAME_get(__u64 order, V *value)
 *	int NAME_insert(__u64 order, const V *value)	ADS_EXISTS if present
 *	int NAME_replace(__u64 order, const V *value)	ADS_ABSENT if absent
 *	int NAME_update(__u64 order, const V *value)	either
 *	int NAME_delete(__u64 order)			ADS_ABSENT if absent
 *	int NAME_pop(__u64 order, V *value)		delete, and get what it was
 *	int NAME_first(__u64 *order, V *value)		ADS_ABSENT if the list is empty
 *	int NAME_pop_first(__u64 *order, V *value)	the same, and delete it
 *	__u32 NAME_len(void)
 *	int NAME_next(struct NAME_cursor *cursor, V *value)
 *		Iteration: start with a zeroed cursor; cursor->scan.hash is the order. ADS_ABSENT at
 *		the end, ADS_BUDGET if the loop budget ran out before it.
 *	int NAME_after(struct NAME_cursor *cursor, __u64 order)
 *		Go on behind an order, for instance where another run of a program has stopped.
 */
#define ADS_LIST(name, V, entries)                                             \
	ADS_DECLARE(name, ADS_KIND_LIST, V, entries);                          \
	struct name##_cursor {                                                 \
		struct ads_scan scan;                                          \
	};                                                                     \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(V), 0};    \
		return ref;                                                    \
	}                                                                      \
	ADS_GLOBAL int name##_push(const V *value, __u64 *order)               \
	{                                                                      \
		__u32 entry;                                                   \
		if (!ads_given(value) || !ads_given(order))                    \
			return ADS_INVALID;                                    \
		return ads_list_push(ads_here(), name##_ref(), value, order, &entry); \
	}                                                                      \
	ADS_GLOBAL __s64 name##_find_entry(__u64 order)                        \
	{                                                                      \
		__u32 entry;                                                   \
		int rc = ads_list_find(ads_here(), name##_ref(), order, &entry); \
		return rc ? (__s64)rc : (__s64)entry;                          \
	}                                                                      \
	static ADS_INLINE V __arena *name##_lookup(__u64 order)                \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__s64 entry = name##_find_entry(order);                        \
		(void)a;                                                       \
		return entry > 0 ? ads_at(a, V, (__u32)entry + ads_entry_value_offset(name##_ref())) : (V __arena *)0; \
	}                                                                      \
	ADS_GLOBAL int name##_get(__u64 order, V *value)                       \
	{                                                                      \
		if (!ads_given(value))                                         \
			return ADS_INVALID;                                    \
		return ads_list_get(ads_here(), name##_ref(), order, value);   \
	}                                                                      \
	ADS_GLOBAL int name##_store(__u64 order, const V *value, __u32 mode)   \
	{                                                                      \
		__u32 entry;                                                   \
		if (!ads_given(value))                                         \
			return ADS_INVALID;                                    \
		return ads_list_update(ads_here(), name##_ref(), order, value, (enum ads_update_mode)mode, &entry); \
	}                                                                      \
	static ADS_INLINE int name##_insert(__u64 order, const V *value)       \
	{                                                                      \
		return name##_store(order, value, ADS_INSERT);                 \
	}                                                                      \
	static ADS_INLINE int name##_replace(__u64 order, const V *value)      \
	{                                                                      \
		return name##_store(order, value, ADS_REPLACE);                \
	}                                                                      \
	static ADS_INLINE int name##_update(__u64 order, const V *value)       \
	{                                                                      \
		return name##_store(order, value, ADS_ANY);                    \
	}                                                                      \
	ADS_GLOBAL int name##_remove(__u64 order, V *value)                    \
	{                                                                      \
		return ads_list_pop(ads_here(), name##_ref(), order, ads_aligned(value)); \
	}                                                                      \
	static ADS_INLINE int name##_delete(__u64 order)                       \
	{                                                                      \
		return name##_remove(order, 0);                                \
	}                                                                      \
	static ADS_INLINE int name##_pop(__u64 order, V *value)                \
	{                                                                      \
		return value ? name##_remove(order, value) : ADS_INVALID;      \
	}                                                                      \
	ADS_GLOBAL int name##_first(__u64 *order, V *value)                    \
	{                                                                      \
		if (!ads_given(order) || !ads_given(value))                    \
			return ADS_INVALID;                                    \
		return ads_list_first(ads_here(), name##_ref(), order, value); \
	}                                                                      \
	ADS_GLOBAL int name##_pop_first(__u64 *order, V *value)                \
	{                                                                      \
		if (!ads_given(order) || !ads_given(value))                    \
			return ADS_INVALID;                                    \
		return ads_list_pop_first(ads_here(), name##_ref(), order, value); \
	}                                                                      \
	static ADS_INLINE int name##_after(struct name##_cursor *cursor, __u64 order) \
	{                                                                      \
		return ads_scan_after(ads_here(), &cursor->scan, ads_list_head(name##_ref()), order); \
	}                                                                      \
	static ADS_NOINLINE __u32 name##_len(void)                             \
	{                                                                      \
		return ads_collection_len(ads_here(), name##_ref());           \
	}                                                                      \
	ADS_GLOBAL int name##_next(struct name##_cursor *cursor, V *value)     \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 entry;                                                   \
		int rc = 0;                                                    \
		if (!ads_given(cursor) || !ads_given(value))                   \
			return ADS_INVALID;                                    \
		if (!cursor->scan.walk.start)                                  \
			rc = ads_scan_start(a, &cursor->scan, ads_list_head(name##_ref())); \
		if (!rc)                                                       \
			rc = ads_scan_next(a, &cursor->scan, name##_ref(), 0, 0, value, &entry); \
		return rc;                                                     \
	}                                                                      \
	struct name##_cursor

/*
 * Queue NAME of V for one producer and one consumer; `slots` is rounded up to a power of two.
 *
 *	int NAME_push(const V *value)	ADS_FULL if no slot is free
 *	int NAME_pop(V *value)		ADS_ABSENT if nothing waits
 *	__u64 NAME_len(void)
 */
#define ADS_QUEUE(name, V, slots)                                              \
	ADS_DECLARE(name, ADS_KIND_QUEUE, V, slots);                           \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(V), 0};    \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE int name##_push(const V *value)                      \
	{                                                                      \
		return ads_queue_push(ads_here(), name##_ref(), ads_aligned(value)); \
	}                                                                      \
	static ADS_INLINE int name##_pop(V *value)                             \
	{                                                                      \
		return ads_queue_pop(ads_here(), name##_ref(), ads_aligned(value)); \
	}                                                                      \
	static ADS_INLINE __u64 name##_len(void)                               \
	{                                                                      \
		return ads_queue_len(ads_here(), name##_ref());                \
	}                                                                      \
	struct ads_ref name##_ref(void)

/*
 * Array NAME of `entries` elements of V, all zero at first; its memory comes as it is touched.
 *
 *	V __arena *NAME_lookup(__u32 index)
 *		Pointer to the element in the arena, NULL if the index is out of range or there is no
 *		memory for its chunk. Fields may be changed in place, as those of a hash map.
 *	int NAME_get(__u32 index, V *value)	ADS_ABSENT if out of range
 *		A copy of the element; makes no memory exist. Each aligned 8-byte field is whole,
 *		several may be of two writers: to keep a record whole take a hash map.
 *	int NAME_set(__u32 index, const V *value)	ADS_ABSENT if out of range, ADS_NO_MEMORY
 */
#define ADS_ARRAY(name, V, entries)                                            \
	ADS_DECLARE(name, ADS_KIND_ARRAY, V, entries);                         \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(V), 0};    \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE V __arena *name##_lookup(__u32 index)                \
	{                                                                      \
		void __arena *found = ads_array_peek(ads_near(), name##_ref(), entries, index); \
		__u32 element;                                                 \
		if (ADS_LIKELY(found))                                         \
			return (V __arena *)found;                             \
		ads_forget(index);                                             \
		if (ads_array_find(ads_here(), name##_ref(), entries, index, &element)) \
			return (V __arena *)0;                                 \
		return ads_at(ads_near(), V, element);                         \
	}                                                                      \
	static ADS_INLINE int name##_get(__u32 index, V *value)                \
	{                                                                      \
		return ads_array_get(ads_here(), name##_ref(), entries, index, \
				     __builtin_assume_aligned(value, __alignof__(V))); \
	}                                                                      \
	static ADS_INLINE int name##_set(__u32 index, const V *value)          \
	{                                                                      \
		return ads_array_set(ads_here(), name##_ref(), entries, index, \
				     __builtin_assume_aligned(value, __alignof__(V))); \
	}                                                                      \
	struct ads_ref name##_ref(void)

/*
 * Ring NAME of records of any size, for one producer and one consumer; `bytes` is rounded up to
 * a power of two. With ADS_OVERWRITE behind it the oldest records make room when it is full.
 *
 *	int NAME_push(const void *data, __u32 size)	a copy; ADS_FULL, ADS_TOO_LONG
 *	void __arena *NAME_reserve(struct ads_ring_draft *draft, __u32 size)
 *		Room to be filled in place; NULL: full or too long. Then commit, submit or discard it.
 *	int NAME_commit(struct ads_ring_draft *draft)	it is filled; ADS_NOT_RESERVED
 *	int NAME_publish(void)				all that is committed can be seen
 *	int NAME_submit(struct ads_ring_draft *draft)	commit and publish
 *	void NAME_discard(struct ads_ring_draft *draft)	give it up: nothing is committed
 *	int NAME_append(const void *data, __u32 size)	as push, to be published later
 *	int NAME_pop(void *to, __u32 room, __u32 *size)	ADS_ABSENT; ADS_TOO_LONG: *size is needed
 *	__u64 NAME_waiting(void)			bytes, more than those of the records
 *
 * Consuming in place, not if it overwrites (ADS_INVALID):
 *	int NAME_peek(struct ads_ring_cursor *batch)	what waits is a batch; ADS_ABSENT: nothing
 *	void __arena *NAME_next(struct ads_ring_cursor *batch, __u32 *size)	NULL: that was all
 *	int NAME_release(const struct ads_ring_cursor *batch)	all that next has returned
 *
 * The sizes of push, append and pop are constants. Records whose size is known at run time are
 * reserved, or read in place. Test for NULL: the verifier does not insist.
 */
#if ADS_BPF /* only the half that counts: two instructions less, each time */
#define ads_handle_of(name) (*(const volatile __u32 *)&(name).handle)
#else
#define ads_handle_of(name) ((__u32)(name).handle)
#endif
#define ADS_RING(name, ...) ADS_RING_WITH(name, __VA_ARGS__, 0, 0)
#define ADS_RING_WITH(name, bytes, options, ...)                               \
	ADS_DECLARATION struct {                                               \
		int(*kind)[ADS_KIND_RING];                                     \
		int(*max_entries)[bytes];                                      \
		int(*flags)[1 + (options)];                                    \
		__u64 handle;                                                  \
	} name ADS_SECTION;                                                    \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {ads_handle_of(name), 0, 0, options};     \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE int name##_push(const void *data, __u32 size)        \
	{                                                                      \
		return ads_ring_push(ads_here(), name##_ref(), data, size);    \
	}                                                                      \
	static ADS_INLINE int name##_append(const void *data, __u32 size)      \
	{                                                                      \
		return ads_ring_append(ads_here(), name##_ref(), data, size, 0); \
	}                                                                      \
	static ADS_INLINE void __arena *name##_reserve(struct ads_ring_draft *draft, __u32 size) \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 place = 0;                                               \
		(void)a;                                                       \
		if (ads_ring_reserve(a, name##_ref(), size, draft, &place))    \
			return (void __arena *)0;                              \
		return ads_at(a, void, place);                                 \
	}                                                                      \
	static ADS_INLINE int name##_commit(struct ads_ring_draft *draft)      \
	{                                                                      \
		return ads_ring_commit(ads_here(), name##_ref(), draft);       \
	}                                                                      \
	static ADS_INLINE void name##_discard(struct ads_ring_draft *draft)    \
	{                                                                      \
		ads_ring_discard(draft);                                       \
	}                                                                      \
	static ADS_INLINE int name##_submit(struct ads_ring_draft *draft)      \
	{                                                                      \
		return ads_ring_submit(ads_here(), name##_ref(), draft);       \
	}                                                                      \
	static ADS_INLINE int name##_publish(void)                             \
	{                                                                      \
		return ads_ring_publish(ads_here(), name##_ref());             \
	}                                                                      \
	static ADS_INLINE int name##_pop(void *to, __u32 room, __u32 *size)    \
	{                                                                      \
		return ads_ring_pop(ads_here(), name##_ref(), to, room, size); \
	}                                                                      \
	static ADS_INLINE int name##_peek(struct ads_ring_cursor *batch)       \
	{                                                                      \
		return ads_ring_peek(ads_here(), name##_ref(), batch);         \
	}                                                                      \
	static ADS_INLINE void __arena *name##_next(struct ads_ring_cursor *batch, __u32 *size) \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 place = 0;                                               \
		(void)a;                                                       \
		return ads_ring_next(a, name##_ref(), batch, &place, size) ? (void __arena *)0 : ads_at(a, void, place); \
	}                                                                      \
	static ADS_INLINE int name##_release(const struct ads_ring_cursor *batch) \
	{                                                                      \
		return ads_ring_release(ads_here(), name##_ref(), batch);      \
	}                                                                      \
	static ADS_INLINE __u64 name##_waiting(void)                           \
	{                                                                      \
		return ads_ring_waiting(ads_here(), name##_ref());             \
	}                                                                      \
	struct ads_ref name##_ref(void)

/*
 * Rings NAME.0, NAME.1 ... for any number of producers, on all CPUs and nested, and one consumer; `bytes` each,
 * rounded up to a power of two, a ring for each CPU of the machine that loads the program. ADS_OVERWRITE as for
 * a ring. See rings.h; who consumes does it ring by ring, in user space.
 *
 *	int NAME_push(const void *data, __u32 size)	a copy; ADS_FULL, ADS_TOO_LONG. Constant sizes
 *	void __arena *NAME_reserve(struct ads_rings_draft *draft, __u32 size)
 *		Room to be filled in place; NULL: full or too long. The program must submit or discard
 *		it before it returns: until then others pass the ring by.
 *	int NAME_submit(struct ads_rings_draft *draft)	it is filled, and can be seen; ADS_NOT_RESERVED
 *	void NAME_discard(struct ads_rings_draft *draft)	give it up
 */
#define ADS_RINGS(name, ...) ADS_RINGS_WITH(name, __VA_ARGS__, 0, 0)
#define ADS_RINGS_WITH(name, bytes, options, ...)                              \
	ADS_DECLARATION struct {                                               \
		int(*kind)[ADS_KIND_RING];                                     \
		int(*max_entries)[bytes];                                      \
		int(*flags)[1 + (options)];                                    \
		__u64 handle;                                                  \
		__u32 each[ADS_RINGS_MOST];                                    \
	} name ADS_SECTION;                                                    \
	static ADS_INLINE int name##_push(const void *data, __u32 size)        \
	{                                                                      \
		return ads_rings_push(ads_here(), name.each, options, data, size); \
	}                                                                      \
	static ADS_INLINE void __arena *name##_reserve(struct ads_rings_draft *draft, __u32 size) \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 place = 0;                                               \
		(void)a;                                                       \
		if (ads_rings_reserve(a, name.each, options, size, draft, &place)) \
			return (void __arena *)0;                              \
		return ads_at(a, void, place);                                 \
	}                                                                      \
	static ADS_INLINE int name##_submit(struct ads_rings_draft *draft)     \
	{                                                                      \
		return ads_rings_submit(ads_here(), options, draft);           \
	}                                                                      \
	static ADS_INLINE void name##_discard(struct ads_rings_draft *draft)   \
	{                                                                      \
		ads_rings_discard(ads_here(), draft);                          \
	}                                                                      \
	struct ads_rings_draft

/*
 * Queue NAME of V for any number of producers and consumers; `slots` is rounded up to a power of
 * two.
 *
 *	int NAME_push(const V *value)	ADS_FULL if no slot is free
 *	int NAME_pop(V *value)		ADS_ABSENT if nothing waits
 *	__u64 NAME_len(void)
 *
 * Records pass through memory that may be written to, such as variables on the stack: the
 * verifier looks at push and pop once and not at each call.
 */
#define ADS_MPMC(name, V, slots)                                               \
	ADS_DECLARE(name, ADS_KIND_MPMC, V, slots);                            \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(V), 0};    \
		return ref;                                                    \
	}                                                                      \
	ADS_GLOBAL int name##_push(const V *value)                             \
	{                                                                      \
		if (!value)                                                    \
			return ADS_INVALID;                                    \
		return ads_mpmc_push(ads_here(), name##_ref(), ads_aligned(value)); \
	}                                                                      \
	ADS_GLOBAL int name##_pop(V *value)                                    \
	{                                                                      \
		if (!value)                                                    \
			return ADS_INVALID;                                    \
		return ads_mpmc_pop(ads_here(), name##_ref(), ads_aligned(value)); \
	}                                                                      \
	static ADS_NOINLINE __u64 name##_len(void)                             \
	{                                                                      \
		return ads_mpmc_len(ads_here(), name##_ref());                 \
	}                                                                      \
	struct ads_ref name##_ref(void)

/*
 * Pool NAME of objects of type T, for structures of your own.
 *
 *	T __arena *NAME_alloc(void)		NULL: full or no memory
 *	int NAME_free(T __arena *object)	ADS_INVALID if it is free already
 *	__u32 NAME_len(void)			objects in use
 *
 * An object may hold pointers to others: store them with ads_user_form(), and either side
 * can follow them.
 */
#define ADS_POOL(name, T, entries)                                             \
	ADS_DECLARE(name, ADS_KIND_POOL, T, entries);                          \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(T), 0};    \
		return ref;                                                    \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_alloc(void)                      \
	{                                                                      \
		struct ads_arena *a = ads_here();                              \
		__u32 object = 0;                                              \
		(void)a;                                                       \
		if (ads_pool_alloc(a, name##_ref(), &object))                  \
			return (T __arena *)0;                                 \
		return ads_at(a, T, object);                                   \
	}                                                                      \
	static ADS_NOINLINE int name##_free(T __arena *object)                 \
	{                                                                      \
		return ads_pool_free(ads_here(), name##_ref(), (__u32)(unsigned long)object); \
	}                                                                      \
	static ADS_NOINLINE __u32 name##_len(void)                             \
	{                                                                      \
		return ads_collection_len(ads_here(), name##_ref());           \
	}                                                                      \
	struct ads_ref name##_ref(void)

/*
 * Intrusive list NAME of records of type T of a pool declared before, linked by their member
 * `node`, a struct ads_node. A record is in one list a node; see intrusive.h for what that asks of
 * programs: above all, assign members of a record, never the whole of it.
 *
 *	int NAME_push(T __arena *record, __u64 *order)	at the head; *order tells its order
 *	int NAME_insert(__u64 order, T __arena *record)	ADS_EXISTS: another has that order.
 *		Both: ADS_LINKED if that node is in a list, ADS_INVALID if the record is not in use.
 *	int NAME_remove(T __arena *record)		ADS_ABSENT if it is not in this list
 *	T __arena *NAME_pop(__u64 order)		remove the one with this order; NULL: none
 *	T __arena *NAME_pop_first(void)			remove the first; NULL: the list is empty
 *		What was removed is the caller's, to free or to link again.
 *	T __arena *NAME_first(void)			NULL: the list is empty
 *	T __arena *NAME_lookup(__u64 order)		NULL: none
 *	int NAME_contains(T __arena *record)		1 or 0, or an error
 *	__s64 NAME_len(void)				by walking; or an error
 *	T __arena *NAME_next(struct NAME_cursor *cursor)
 *		Iteration: start with a zeroed cursor; cursor->scan.hash is the order. NULL at the end:
 *		cursor->error is ADS_ABSENT, or what else ended it, such as ADS_BUDGET.
 *	int NAME_after(struct NAME_cursor *cursor, __u64 order)
 *		Go on behind an order, for instance where another run of a program has stopped.
 */
#define ADS_INTRUSIVE(name, of_pool, T, node)                                  \
	ADS_STATIC_ASSERT(__builtin_types_compatible_p(__typeof__(((T *)0)->node), struct ads_node), \
			  "the member of an intrusive list is a struct ads_node"); \
	ADS_STATIC_ASSERT(__builtin_offsetof(T, node) % 8 == 0, "a node is 8-byte aligned"); \
	ADS_DECLARATION struct {                                               \
		int(*kind)[ADS_KIND_INTRUSIVE];                                \
		T(*value)[1];                                                  \
		int(*max_entries)[1];                                          \
		int(*node_at)[__builtin_offsetof(T, node) + 1];                \
		int(*pool__##of_pool)[1];                                      \
		__u64 handle;                                                  \
	} name ADS_SECTION;                                                    \
	struct name##_cursor {                                                 \
		struct ads_scan scan;                                          \
		int error;                                                     \
		__u32 pad;                                                     \
	};                                                                     \
	static ADS_INLINE struct ads_ref name##_ref(void)                      \
	{                                                                      \
		ADS_STATIC_ASSERT(__builtin_types_compatible_p(__typeof__((*of_pool.value)[0]), T), \
				  "records of the pool's type");               \
		struct ads_ref ref = {(__u32)name.handle, 0, sizeof(T), 0}; \
		return ref;                                                    \
	}                                                                      \
	static ADS_INLINE __u32 name##_node(T __arena *record)                 \
	{                                                                      \
		return (__u32)(unsigned long)record + (__u32)__builtin_offsetof(T, node); \
	}                                                                      \
	static ADS_INLINE T __arena *name##_record(struct ads_arena *a, int rc, __u32 at) \
	{                                                                      \
		(void)a;                                                       \
		return rc ? (T __arena *)0 : ads_at(a, T, at - (__u32)__builtin_offsetof(T, node)); \
	}                                                                      \
	static ADS_NOINLINE int name##_push(T __arena *record, __u64 *order)   \
	{                                                                      \
		return ads_intrusive_push(ads_here(), name##_ref(), name##_node(record), order); \
	}                                                                      \
	static ADS_NOINLINE int name##_insert(__u64 order, T __arena *record)  \
	{                                                                      \
		return ads_intrusive_insert(ads_here(), name##_ref(), order, name##_node(record)); \
	}                                                                      \
	static ADS_NOINLINE int name##_remove(T __arena *record)               \
	{                                                                      \
		return ads_intrusive_remove(ads_here(), name##_ref(), name##_node(record)); \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_pop(__u64 order)                 \
	{                                                                      \
		__u32 at = 0;                                                  \
		int rc = ads_intrusive_pop(ads_here(), name##_ref(), order, &at); \
		return name##_record(ads_here(), rc, at);                      \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_pop_first(void)                  \
	{                                                                      \
		__u64 order = 0;                                               \
		__u32 at = 0;                                                  \
		int rc = ads_intrusive_pop_first(ads_here(), name##_ref(), &order, &at); \
		return name##_record(ads_here(), rc, at);                      \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_first(void)                      \
	{                                                                      \
		__u64 order = 0;                                               \
		__u32 at = 0;                                                  \
		int rc = ads_intrusive_first(ads_here(), name##_ref(), &order, &at); \
		return name##_record(ads_here(), rc, at);                      \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_lookup(__u64 order)              \
	{                                                                      \
		__u32 at = 0;                                                  \
		int rc = ads_intrusive_find(ads_here(), name##_ref(), order, &at); \
		return name##_record(ads_here(), rc, at);                      \
	}                                                                      \
	static ADS_NOINLINE int name##_contains(T __arena *record)             \
	{                                                                      \
		__u64 order = 0;                                               \
		int rc = ads_intrusive_contains(ads_here(), name##_ref(), name##_node(record), &order); \
		return rc == ADS_OK ? 1 : rc == ADS_ABSENT ? 0 : rc;           \
	}                                                                      \
	static ADS_NOINLINE __s64 name##_len(void)                             \
	{                                                                      \
		return ads_intrusive_len(ads_here(), name##_ref());            \
	}                                                                      \
	static ADS_INLINE int name##_after(struct name##_cursor *cursor, __u64 order) \
	{                                                                      \
		return ads_scan_after(ads_here(), &cursor->scan, ads_list_head(name##_ref()), order); \
	}                                                                      \
	static ADS_NOINLINE T __arena *name##_next(struct name##_cursor *cursor) \
	{                                                                      \
		__u32 at = 0;                                                  \
		int rc = 0;                                                    \
		if (!cursor->scan.walk.start)                                  \
			rc = ads_scan_start(ads_here(), &cursor->scan, ads_list_head(name##_ref())); \
		if (!rc)                                                       \
			rc = ads_intrusive_next(ads_here(), name##_ref(), &cursor->scan, &at); \
		cursor->error = rc;                                            \
		return name##_record(ads_here(), rc, at);                      \
	}                                                                      \
	struct name##_cursor

/* A raw block of zeroed bytes for the life of the arena, on a cache line; NULL: no memory. */
static ADS_INLINE void __arena *ads_block(struct ads_arena *a, __u64 bytes)
{
	__u32 offset = 0;

	(void)a;
	return ads_alloc(a, bytes, &offset) ? (void __arena *)0 : ads_at(a, void, offset);
}

#endif /* ARENADS_BPF_H */
