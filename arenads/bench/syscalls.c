/* SPDX-License-Identifier: MIT */
/*
 * syscalls.c - kernel maps for Python, by as few calls into C as there can be; see syscalls.py.
 *
 * Each operation is one function, which takes numbers as they are: nothing is packed, and no buffer is
 * read or written in Python, where a number does. Codes are 0 or -errno.
 */
#include "loops.h"

/* Stands for an absent key where a number is returned: no loop stores it. */
#define NO_NUMBER (~0ull)

/* Of a key that Python has as KEY, and the kernel reads at AT: so many bytes as the map's keys have. The low
 * bytes of a number come first on all machines that have arenas. */
#define ONE_BY_ONE(kind, KEY, AT)                                              \
	static _Bool kind##_contains(int fd, KEY key)                          \
	{                                                                      \
		__u64 value[32];                                               \
		return !bench_element(BENCH_LOOKUP, fd, AT, value, 0);         \
	}                                                                      \
	static __u64 kind##_get(int fd, KEY key)                               \
	{                                                                      \
		__u64 value;                                                   \
		return bench_element(BENCH_LOOKUP, fd, AT, &value, 0) ? NO_NUMBER : value; \
	}                                                                      \
	static int kind##_load(int fd, KEY key, void *value)                   \
	{                                                                      \
		return bench_element(BENCH_LOOKUP, fd, AT, value, 0);          \
	}                                                                      \
	static int kind##_put(int fd, KEY key, __u64 value, __u64 mode)        \
	{                                                                      \
		return bench_element(BENCH_UPDATE, fd, AT, &value, mode);      \
	}                                                                      \
	static int kind##_store(int fd, KEY key, const char *value, __u64 mode) \
	{                                                                      \
		return bench_element(BENCH_UPDATE, fd, AT, (void *)(unsigned long)value, mode); \
	}                                                                      \
	static int kind##_delete(int fd, KEY key)                              \
	{                                                                      \
		return bench_element(BENCH_DELETE, fd, AT, NULL, 0);           \
	}                                                                      \
	/* There is no such thing by bpf(): others may store between both. */  \
	static __u64 kind##_add(int fd, KEY key, __u64 amount)                 \
	{                                                                      \
		__u64 value, sum;                                              \
		if (bench_element(BENCH_LOOKUP, fd, AT, &value, 0))            \
			return NO_NUMBER;                                      \
		sum = value + amount;                                          \
		return bench_element(BENCH_UPDATE, fd, AT, &sum, BENCH_EXISTING) ? NO_NUMBER : value; \
	}

ONE_BY_ONE(number, __u64, &key)
ONE_BY_ONE(bytes, const char *, key)

/* --- many ---------------------------------------------------------------------------------------- */

/* Keys that lie one behind the other, and their values; how many there are before the first that is absent. */
static __u32 get_each(int fd, const char *keys, __u32 key_size, char *values, __u32 value_size, __u32 count)
{
	__u32 i;

	for (i = 0; i < count; i++)
		if (bench_element(BENCH_LOOKUP, fd, keys + (__u64)i * key_size, values + (__u64)i * value_size, 0))
			break;
	return i;
}

static int update_batch(int fd, const char *keys, const char *values, __u32 count)
{
	return bench_batch(BENCH_UPDATE_BATCH, fd, NULL, NULL, (void *)(unsigned long)keys,
			   (void *)(unsigned long)values, &count);
}

static int delete_batch(int fd, const char *keys, __u32 count)
{
	return bench_batch(BENCH_DELETE_BATCH, fd, NULL, NULL, (void *)(unsigned long)keys, NULL, &count);
}

/* The next *count entries, and then how many there were; -ENOENT behind the last. `place` is where the walk is,
 * and `begun` whether it has one. */
static int walk_by_batch(int fd, char *place, int begun, char *keys, char *values, __u32 key_size, __u32 value_size,
			 __u32 *count)
{
	(void)key_size;
	(void)value_size;
	return bench_batch(BENCH_LOOKUP_BATCH, fd, begun ? place : NULL, place, keys, values, count);
}

static int walk_by_keys(int fd, char *place, int begun, char *keys, char *values, __u32 key_size, __u32 value_size,
			__u32 *count)
{
	__u32 most = *count;
	char *last = begun ? place : NULL;
	int code;

	for (*count = 0; *count < most; ++*count) {
		char *key = keys + (__u64)*count * key_size;

		code = bench_element(BENCH_NEXT, fd, last, key, 0);
		if (!code)
			code = bench_element(BENCH_LOOKUP, fd, key, values + (__u64)*count * value_size, 0);
		if (code)
			return code;
		last = key;
	}
	if (last && last != place)
		memcpy(place, last, key_size);
	return 0;
}
