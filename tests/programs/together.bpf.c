/* SPDX-License-Identifier: MIT */
/*
 * together.bpf.c - one program with all operations of two ordered maps, a hash map and a list: what the
 * verifier has to look at in all must stay well below its limit of instructions for one program.
 */
#include <arenads/bpf.h>

struct name {
	char text[16];
};

ADS_ARENA(32 * ADS_MIB);
ADS_ORDEREDMAP(numbers, __u64, __u64, 1024);
ADS_ORDEREDMAP(names, struct name, __u64, 1024, ADS_GRACE);
ADS_HASHMAP(tasks, __u64, __u64, 1024);
ADS_LIST(jobs, __u64, 1024);

char LICENSE[] SEC("license") = "GPL";

/* Each operation once, on a key that is not there before: counts the answers that are as they should be. */
#define EVERY_CHANGE(map, key, value)                                          \
	({                                                                     \
		int good = 0;                                                  \
                                                                               \
		good += map##_replace(&key, &value) == ADS_ABSENT;             \
		good += map##_insert(&key, &value) == ADS_OK;                  \
		good += map##_insert(&key, &value) == ADS_EXISTS;              \
		good += map##_update(&key, &value) == ADS_OK;                  \
		good += map##_len() == 1;                                      \
		good += map##_pop(&key, &value) == ADS_OK;                     \
		good += map##_delete(&key) == ADS_ABSENT;                      \
		good;                                                          \
	})
#define EVERY_LOOK(map, key, value)                                            \
	({                                                                     \
		__u64 __arena *place;                                          \
		int good = 0;                                                  \
                                                                               \
		good += map##_insert(&key, &value) == ADS_OK;                  \
		good += map##_find(&key, &place) == ADS_OK;                    \
		place = map##_lookup(&key);                                    \
		if (place)                                                     \
			ads_add(place, 1);                                     \
		good += map##_get(&key, &value) == ADS_OK;                     \
		good += map##_delete(&key) == ADS_OK;                          \
		good;                                                          \
	})
#define A_KEY(map, key, value) (map##_update(&key, &value) == ADS_OK)
#define EVERY_ORDERED_OPERATION(map, key, value)                               \
	({                                                                     \
		struct map##_cursor cursor = {};                               \
		int good = 0;                                                  \
                                                                               \
		good += map##_first(&key, &value) == ADS_OK;                   \
		good += map##_lower_bound(&key, &value) == ADS_OK;             \
		good += map##_seek(&cursor, &key) == ADS_OK;                   \
		good += map##_next(&cursor, &value) == ADS_OK;                 \
		good += map##_next(&cursor, &value) == ADS_ABSENT;             \
		good += map##_pop_first(&key, &value) == ADS_OK;               \
		good += map##_pop_first(&key, &value) == ADS_ABSENT;           \
		good;                                                          \
	})

/* Functions of their own: a program has 512 bytes of stack for all that are under way. */
#define WITH_NUMBER(name, map, operations)                                     \
	static ADS_NOINLINE int name(__u64 number)                             \
	{                                                                      \
		__u64 key = number, value = number;                            \
		return operations(map, key, value);                            \
	}
#define WITH_NAME(function, map, operations)                                   \
	static ADS_NOINLINE int function(__u64 number)                         \
	{                                                                      \
		struct name key = {};                                          \
		__u64 value = number;                                          \
		__builtin_memcpy(key.text, &number, 8);                        \
		return operations(map, key, value);                            \
	}
WITH_NUMBER(change_tasks, tasks, EVERY_CHANGE)
WITH_NUMBER(look_at_tasks, tasks, EVERY_LOOK)
WITH_NUMBER(change_numbers, numbers, EVERY_CHANGE)
WITH_NUMBER(look_at_numbers, numbers, EVERY_LOOK)
WITH_NUMBER(put_number, numbers, A_KEY)
WITH_NUMBER(order_numbers, numbers, EVERY_ORDERED_OPERATION)
WITH_NAME(change_names, names, EVERY_CHANGE)
WITH_NAME(look_at_names, names, EVERY_LOOK)
WITH_NAME(put_name, names, A_KEY)
WITH_NAME(order_names, names, EVERY_ORDERED_OPERATION)


static ADS_NOINLINE int change_jobs(__u64 order)
{
	__u64 value = order;
	int good = 0;

	good += jobs_replace(order, &value) == ADS_ABSENT;
	good += jobs_insert(order, &value) == ADS_OK;
	good += jobs_update(order, &value) == ADS_OK;
	good += jobs_len() == 1;
	good += jobs_pop(order, &value) == ADS_OK;
	good += jobs_delete(order) == ADS_ABSENT;
	return good;
}

static ADS_NOINLINE int look_at_jobs(__u64 order)
{
	struct jobs_cursor cursor = {};
	__u64 value = order, pushed = 0;
	__u64 __arena *place;
	int good = 0;

	good += jobs_push(&value, &pushed) == ADS_OK;
	place = jobs_lookup(pushed);
	if (place)
		ads_add(place, 1);
	good += jobs_get(pushed, &value) == ADS_OK;
	good += jobs_first(&order, &value) == ADS_OK;
	good += jobs_next(&cursor, &value) == ADS_OK;
	good += jobs_after(&cursor, pushed) == ADS_OK;
	good += jobs_pop_first(&order, &value) == ADS_OK;
	return good;
}

SEC("syscall") int all_of_them(__u64 *number)
{
	return change_tasks(*number) + look_at_tasks(*number) + change_numbers(*number) + look_at_numbers(*number) +
	       put_number(*number) + order_numbers(*number) + change_names(*number) + look_at_names(*number) +
	       put_name(*number) + order_names(*number) + change_jobs(*number) + look_at_jobs(*number);
}
