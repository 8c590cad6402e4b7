/* SPDX-License-Identifier: MIT */
/*
 * damaged.bpf.c - every operation of every structure, one a run, for arenas that are damaged.
 *
 * fuzz.c runs the programs in the kernel, and includes this file to run the same source in
 * user space: where user space finds nothing wrong, both must answer the same and leave the same
 * memory behind. So the budget is that of fuzz.c.
 */
#ifndef ADS_BUDGET_STEPS
#define ADS_BUDGET_STEPS 1024
#endif
#include <arenads/bpf.h>

struct pair {
	__u64 words[2];
};
struct wide_key {
	__u32 words[5];
};
struct wide_value {
	__u64 words[25];
};
struct event {
	__u64 words[3];
};
struct letter {
	__u64 words[5];
};
struct object {
	__u64 first;
	struct ads_node node;
	__u8 rest[40 - sizeof(struct ads_node)];
};

ADS_ARENA(1 * ADS_MIB);
ADS_HASHMAP(map, __u64, struct pair, 2000);
ADS_HASHMAP(wide, struct wide_key, struct wide_value, 40);
ADS_HASHMAP(late, __u64, struct pair, 60, ADS_GRACE);
ADS_SET(set, __u64, 200);
ADS_LIST(list, struct event, 80);
ADS_QUEUE(queue, struct letter, 16);
ADS_POOL(pool, struct object, 100);
ADS_INTRUSIVE(nodes, pool, struct object, node);
ADS_MPMC(mpmc, struct letter, 16);
ADS_ARRAY(array, struct letter, 3000);
ADS_RING(ring, 2048);
ADS_RING(recorder, 1024, ADS_OVERWRITE);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u64 operation;
	__u64 key; /* or the order, or the object's offset */
	__u64 value;
	__u64 answer; /* made of all that was read */
};

/* What changes nothing but hints comes first. */
enum { MAP_GET, MAP_FIND, MAP_LEN, MAP_SCAN, MAP_READS,
       MAP_INSERT = MAP_READS, MAP_REPLACE, MAP_UPDATE, MAP_LOOKUP_OR_INSERT, MAP_DELETE, MAP_POP, MAP_OPERATIONS };
enum { SET_CONTAINS, SET_LEN, SET_SCAN, SET_READS,
       SET_INSERT = SET_READS, SET_DELETE, SET_OPERATIONS };
enum { LIST_GET, LIST_FIND, LIST_LEN, LIST_SCAN, LIST_READS,
       LIST_PUSH = LIST_READS, LIST_INSERT, LIST_REPLACE, LIST_UPDATE, LIST_DELETE, LIST_OPERATIONS };
enum { QUEUE_LEN, QUEUE_READS, QUEUE_PUSH = QUEUE_READS, QUEUE_POP, QUEUE_OPERATIONS };
enum { POOL_LEN, POOL_READS, POOL_ALLOC = POOL_READS, POOL_FREE, BLOCK_ALLOC, POOL_OPERATIONS };

enum { ARRAY_GET, ARRAY_READS, ARRAY_SET = ARRAY_READS, ARRAY_FIND, ARRAY_OPERATIONS };

enum { RING_WAITING, RING_READS,
       RING_PUSH = RING_READS, RING_APPEND, RING_RESERVE, RING_PUBLISH, RING_POP, RING_BATCH, RING_OPERATIONS };

enum { NODES_FIND, NODES_FIRST, NODES_CONTAINS, NODES_LEN, NODES_SCAN, NODES_READS,
       NODES_PUSH = NODES_READS, NODES_INSERT, NODES_REMOVE, NODES_POP, NODES_POP_FIRST, NODES_OPERATIONS };

#define SCAN_ENTRIES 1024

#define mix(sum, word) ((sum) = ((sum) ^ (word)) * 0x9e3779b97f4a7c15ull)
#define mix_all(sum, record)                                                   \
	do {                                                                   \
		__u32 n;                                                       \
		for (n = 0; n < sizeof((record)->words) / sizeof((record)->words[0]); n++) \
			mix(sum, (record)->words[n]);                          \
	} while (0)

/* The pointer's low half: kernel and user space have different upper ones. */
#define place_of(pointer) ((__u32)(unsigned long)(pointer))

#define set_all(record, number)                                                \
	do {                                                                   \
		__u32 n;                                                       \
		for (n = 0; n < sizeof((record)->words) / sizeof((record)->words[0]); n++) \
			(record)->words[n] = (number) + n;                     \
	} while (0)

/* Values are not on the stack, for which some are too large: of these programs only one runs at a
 * time. The key begins with the step's. */
#define USE_MAP(name, K, V)                                                    \
	static V name##_value;                                                 \
	static ADS_NOINLINE int name##_scan(struct step *step)                 \
	{                                                                      \
		struct name##_cursor cursor = {};                              \
		__u64 sum = 0, first;                                          \
		__u32 i;                                                       \
		int rc = ADS_OK;                                               \
		for (ads_each(i, SCAN_ENTRIES)) {                              \
			rc = name##_next(&cursor, &name##_value);              \
			if (rc)                                                \
				break;                                         \
			__builtin_memcpy(&first, &cursor.key, sizeof(first));  \
			mix(sum, first);                                       \
			mix_all(sum, &name##_value);                           \
		}                                                              \
		if (step)                                                      \
			step->answer = sum;                                    \
		return rc;                                                     \
	}                                                                      \
	SEC("syscall") int use_##name(struct step *step)                       \
	{                                                                      \
		V __arena *found = 0;                                          \
		__u64 sum = 0;                                                 \
		K key = {0};                                                   \
		int rc;                                                        \
		__builtin_memcpy(&key, &step->key, sizeof(step->key));         \
		set_all(&name##_value, step->value);                           \
		switch (step->operation) {                                     \
		case MAP_GET:                                                  \
			rc = name##_get(&key, &name##_value);                  \
			if (!rc)                                               \
				mix_all(sum, &name##_value);                   \
			break;                                                 \
		case MAP_FIND:                                                 \
			rc = name##_find(&key, &found);                        \
			if (!rc)                                               \
				sum = place_of(found);                         \
			break;                                                 \
		case MAP_LEN:                                                  \
			sum = name##_len();                                    \
			rc = ADS_OK;                                           \
			break;                                                 \
		case MAP_SCAN:                                                 \
			return name##_scan(step);                              \
		case MAP_INSERT:                                               \
			rc = name##_insert(&key, &name##_value);               \
			break;                                                 \
		case MAP_REPLACE:                                              \
			rc = name##_replace(&key, &name##_value);              \
			break;                                                 \
		case MAP_UPDATE:                                               \
			rc = name##_update(&key, &name##_value);               \
			break;                                                 \
		case MAP_LOOKUP_OR_INSERT:                                     \
			found = name##_lookup_or_insert(&key, &name##_value);  \
			sum = place_of(found);                                 \
			rc = found ? ADS_OK : ADS_ABSENT;                      \
			break;                                                 \
		case MAP_DELETE:                                               \
			rc = name##_delete(&key);                              \
			break;                                                 \
		case MAP_POP:                                                  \
			rc = name##_pop(&key, &name##_value);                  \
			if (!rc)                                               \
				mix_all(sum, &name##_value);                   \
			break;                                                 \
		default:                                                       \
			rc = ADS_INVALID;                                      \
		}                                                              \
		step->answer = sum;                                            \
		return rc;                                                     \
	}

USE_MAP(map, __u64, struct pair)
USE_MAP(wide, struct wide_key, struct wide_value)
USE_MAP(late, __u64, struct pair)

static ADS_NOINLINE int set_scan(struct step *step)
{
	struct set_cursor cursor = {};
	__u64 sum = 0;
	__u32 i;
	int rc = ADS_OK;

	for (ads_each(i, SCAN_ENTRIES)) {
		rc = set_next(&cursor);
		if (rc)
			break;
		mix(sum, cursor.key);
	}
	if (step)
		step->answer = sum;
	return rc;
}

SEC("syscall") int use_set(struct step *step)
{
	__u64 key = step->key, sum = 0;
	int rc = ADS_OK;

	switch (step->operation) {
	case SET_CONTAINS:
		rc = set_contains(&key);
		if (rc >= 0) {
			sum = (__u64)rc;
			rc = ADS_OK;
		}
		break;
	case SET_LEN:
		sum = set_len();
		break;
	case SET_SCAN:
		return set_scan(step);
	case SET_INSERT:
		rc = set_insert(&key);
		break;
	case SET_DELETE:
		rc = set_delete(&key);
		break;
	default:
		rc = ADS_INVALID;
	}
	step->answer = sum;
	return rc;
}

static ADS_NOINLINE int list_scan(struct step *step)
{
	struct list_cursor cursor = {};
	struct event value;
	__u64 sum = 0;
	__u32 i;
	int rc = ADS_OK;

	for (ads_each(i, SCAN_ENTRIES)) {
		rc = list_next(&cursor, &value);
		if (rc)
			break;
		mix(sum, cursor.scan.hash);
		mix_all(sum, &value);
	}
	if (step)
		step->answer = sum;
	return rc;
}

SEC("syscall") int use_list(struct step *step)
{
	struct event value = {{step->value, ~step->value, 3}};
	struct event __arena *found;
	__u64 order = 0, sum = 0;
	int rc;

	switch (step->operation) {
	case LIST_GET:
		rc = list_get(step->key, &value);
		if (!rc)
			mix_all(sum, &value);
		break;
	case LIST_FIND:
		found = list_lookup(step->key);
		sum = place_of(found);
		rc = found ? ADS_OK : ADS_ABSENT;
		break;
	case LIST_LEN:
		sum = list_len();
		rc = ADS_OK;
		break;
	case LIST_SCAN:
		return list_scan(step);
	case LIST_PUSH:
		rc = list_push(&value, &order);
		if (!rc)
			sum = order;
		break;
	case LIST_INSERT:
		rc = list_insert(step->key, &value);
		break;
	case LIST_REPLACE:
		rc = list_replace(step->key, &value);
		break;
	case LIST_UPDATE:
		rc = list_update(step->key, &value);
		break;
	case LIST_DELETE:
		rc = list_delete(step->key);
		break;
	default:
		rc = ADS_INVALID;
	}
	step->answer = sum;
	return rc;
}

/* Fixed-size records, for one producer and consumer or for any number. */
#define USE_QUEUE(name)                                                        \
	SEC("syscall") int use_##name(struct step *step)                       \
	{                                                                      \
		struct letter value = {{step->value, ~step->value, 3, 4, 5}};  \
		__u64 sum = 0;                                                 \
		int rc;                                                        \
		switch (step->operation) {                                     \
		case QUEUE_LEN:                                                \
			sum = name##_len();                                    \
			rc = ADS_OK;                                           \
			break;                                                 \
		case QUEUE_PUSH:                                               \
			rc = name##_push(&value);                              \
			break;                                                 \
		case QUEUE_POP:                                                \
			rc = name##_pop(&value);                               \
			if (!rc)                                               \
				mix_all(sum, &value);                          \
			break;                                                 \
		default:                                                       \
			rc = ADS_INVALID;                                      \
		}                                                              \
		step->answer = sum;                                            \
		return rc;                                                     \
	}

USE_QUEUE(queue)
USE_QUEUE(mpmc)

SEC("syscall") int use_pool(struct step *step)
{
	__u32 place = 0;
	int rc = ADS_OK;

	switch (step->operation) {
	case POOL_LEN:
		place = pool_len();
		break;
	case POOL_ALLOC: /* not pool_alloc(): the code is wanted */
		rc = ads_pool_alloc(ads_here(), pool_ref(), &place);
		break;
	case POOL_FREE:
		rc = pool_free(ads_at(&arena, struct object, step->key));
		break;
	case BLOCK_ALLOC:
		rc = ads_alloc(ads_here(), step->value & 1023, &place);
		break;
	default:
		rc = ADS_INVALID;
	}
	step->answer = place;
	return rc;
}

SEC("syscall") int use_array(struct step *step)
{
	struct letter value;
	__u32 place = 0;
	__u64 sum = 0;
	int rc;

	set_all(&value, step->value);
	switch (step->operation) {
	case ARRAY_GET:
		rc = array_get((__u32)step->key, &value);
		if (!rc)
			mix_all(sum, &value);
		break;
	case ARRAY_SET:
		rc = array_set((__u32)step->key, &value);
		break;
	case ARRAY_FIND: /* not array_lookup(): the code is wanted */
		rc = ads_array_find(ads_here(), array_ref(), 3000, (__u32)step->key, &place);
		if (!rc)
			sum = place;
		break;
	default:
		rc = ADS_INVALID;
	}
	step->answer = sum;
	return rc;
}

/* Records are reserved in all sizes, and popped where there is room for some. */
#define USE_RING(name)                                                         \
	static ADS_NOINLINE int name##_batch(struct step *step)                \
	{                                                                      \
		struct ads_ring_cursor batch = {0, 0, 0};                      \
		__u64 sum = 0;                                                 \
		__u32 i, size = 0;                                             \
		int rc = name##_peek(&batch);                                  \
		if (!step || rc)                                               \
			return rc;                                             \
		for (ads_each(i, SCAN_ENTRIES)) {                              \
			const __u64 __arena *record = name##_next(&batch, &size); \
			if (!record)                                           \
				break;                                         \
			mix(sum, size);                                        \
			if (size >= 8)                                         \
				mix(sum, ads_load(record));                    \
		}                                                              \
		step->answer = sum;                                            \
		return name##_release(&batch);                                 \
	}                                                                      \
	static ADS_NOINLINE int name##_draft(__u64 value)                      \
	{                                                                      \
		struct ads_ring_draft draft = {0, 0, 0, 0, 0};                 \
		__u32 place = 0, size = (__u32)value & 255;                    \
		int rc = ads_ring_reserve(ads_here(), name##_ref(), size, &draft, &place); \
		if (!rc && size >= 8)                                          \
			ads_store(ads_at(ads_here(), __u64, place), value);    \
		if (rc)                                                        \
			return rc;                                             \
		return value >> 63 ? name##_submit(&draft) : name##_commit(&draft); \
	}                                                                      \
	SEC("syscall") int use_##name(struct step *step)                       \
	{                                                                      \
		struct letter value;                                           \
		__u64 sum = 0;                                                 \
		__u32 size = 0, n;                                             \
		int rc = ADS_OK;                                               \
		set_all(&value, step->value);                                  \
		switch (step->operation) {                                     \
		case RING_WAITING:                                             \
			sum = name##_waiting();                                \
			break;                                                 \
		case RING_PUSH:                                                \
			rc = name##_push(&value, sizeof(value));               \
			break;                                                 \
		case RING_APPEND:                                              \
			rc = name##_append(&value, 12);                        \
			break;                                                 \
		case RING_RESERVE:                                             \
			rc = name##_draft(step->value);                        \
			break;                                                 \
		case RING_PUBLISH:                                             \
			rc = name##_publish();                                 \
			break;                                                 \
		case RING_POP:                                                 \
			rc = name##_pop(&value, sizeof(value), &size);         \
			mix(sum, size);                                        \
			for (n = 0; n < 5; n++) /* what is behind the record is anything */ \
				if (!rc && 8 * n + 8 <= size)                  \
					mix(sum, value.words[n]);              \
			break;                                                 \
		case RING_BATCH:                                               \
			return name##_batch(step);                             \
		default:                                                       \
			rc = ADS_INVALID;                                      \
		}                                                              \
		step->answer = sum;                                            \
		return rc;                                                     \
	}

USE_RING(ring)
USE_RING(recorder)

/* Not the functions that return records: the codes are wanted. */
static ADS_NOINLINE int nodes_scan(struct step *step)
{
	struct nodes_cursor cursor = {};
	__u64 sum = 0;
	__u32 i;

	for (ads_each(i, SCAN_ENTRIES)) {
		struct object __arena *object = nodes_next(&cursor);

		if (!object)
			break;
		mix(sum, place_of(object));
	}
	if (step)
		step->answer = sum;
	return cursor.error;
}

SEC("syscall") int use_nodes(struct step *step)
{
	__u64 key = step->key, order = 0;
	__u32 node = (__u32)key + (__u32)__builtin_offsetof(struct object, node);
	__u32 place = 0;
	int rc = ADS_OK;

	switch (step->operation) {
	case NODES_FIND:
		rc = ads_intrusive_find(ads_here(), nodes_ref(), key, &place);
		break;
	case NODES_FIRST:
		rc = ads_intrusive_first(ads_here(), nodes_ref(), &order, &place);
		break;
	case NODES_CONTAINS:
		rc = ads_intrusive_contains(ads_here(), nodes_ref(), node, &order);
		break;
	case NODES_LEN:
		order = (__u64)nodes_len();
		break;
	case NODES_SCAN:
		return nodes_scan(step);
	case NODES_PUSH:
		rc = ads_intrusive_push(ads_here(), nodes_ref(), node, &order);
		break;
	case NODES_INSERT:
		rc = ads_intrusive_insert(ads_here(), nodes_ref(), step->value & 63, node);
		break;
	case NODES_REMOVE:
		rc = ads_intrusive_remove(ads_here(), nodes_ref(), node);
		break;
	case NODES_POP:
		rc = ads_intrusive_pop(ads_here(), nodes_ref(), key, &place);
		break;
	case NODES_POP_FIRST:
		rc = ads_intrusive_pop_first(ads_here(), nodes_ref(), &order, &place);
		break;
	default:
		rc = ADS_INVALID;
	}
	step->answer = rc ? 0 : order ^ (__u64)place << 32;
	return rc;
}
