/* SPDX-License-Identifier: MIT */
/*
 * ordered.bpf.c - ordered maps, with keys of each kind, for tests of both sides.
 */
#include <arenads/bpf.h>

struct name {
	char text[16];
};

ADS_ARENA(32 * ADS_MIB);
ADS_ORDEREDMAP(numbers, __u64, __u64, 65536);
ADS_ORDEREDMAP(signs, __s32, __u64, 1024);
ADS_ORDEREDMAP(names, struct name, __u64, 1024);

char LICENSE[] SEC("license") = "GPL";

enum { GET, INSERT, REPLACE, UPDATE, DELETE, POP, FIRST, POP_FIRST, LOWER_BOUND, RANGE, LENGTH };

struct step {
	__u64 operation, key, value, count;
	__s64 code;
};

#define OPERATE(map, K)                                                        \
	do {                                                                   \
		__u64 operation = step->operation, value = step->value;        \
		K key = {0};                                                   \
		__s64 code = 0;                                                \
                                                                               \
		read_key(&key, step);                                          \
		if (operation == GET)                                          \
			code = map##_get(&key, &value);                        \
		if (operation == INSERT)                                       \
			code = map##_insert(&key, &value);                     \
		if (operation == REPLACE)                                      \
			code = map##_replace(&key, &value);                    \
		if (operation == UPDATE)                                       \
			code = map##_update(&key, &value);                     \
		if (operation == DELETE)                                       \
			code = map##_delete(&key);                             \
		if (operation == POP)                                          \
			code = map##_pop(&key, &value);                        \
		if (operation == FIRST)                                        \
			code = map##_first(&key, &value);                      \
		if (operation == POP_FIRST)                                    \
			code = map##_pop_first(&key, &value);                  \
		if (operation == LOWER_BOUND)                                  \
			code = map##_lower_bound(&key, &value);                \
		if (operation == LENGTH)                                       \
			value = map##_len();                                   \
		write_key(step, &key);                                         \
		step->value = value;                                           \
		step->code = code;                                             \
	} while (0)

/* Sum up `count` values from a key on. */
#define SUM_UP(map, K)                                                         \
	do {                                                                   \
		__u64 count = step->count, done = 0, sum = 0, value = 0, i;    \
		struct map##_cursor cursor = {};                               \
		K key = (K)step->key;                                          \
		__s64 code = map##_seek(&cursor, &key);                        \
                                                                               \
		for (ads_each(i, count)) {                                     \
			code = map##_next(&cursor, &value);                    \
			if (code)                                              \
				break;                                         \
			sum += value;                                          \
			done++;                                                \
		}                                                              \
		step->value = sum;                                             \
		step->count = done;                                            \
		step->code = code;                                             \
	} while (0)

#define read_key(to, from) (*(to) = (__typeof__(*(to)))(from)->key)
#define write_key(to, from) ((to)->key = (__u64)*(from))

SEC("syscall") int on_numbers(struct step *step)
{
	OPERATE(numbers, __u64);
	return 0;
}

SEC("syscall") int on_signs(struct step *step)
{
	OPERATE(signs, __s32);
	return 0;
}

SEC("syscall") int sum_numbers(struct step *step)
{
	SUM_UP(numbers, __u64);
	return 0;
}

SEC("syscall") int sum_signs(struct step *step)
{
	SUM_UP(signs, __s32);
	return 0;
}

#undef read_key
#undef write_key
/* Eight bytes of text will do, doubled. */
#define read_key(to, from)                                                     \
	({                                                                     \
		__u64 word = (from)->key;                                      \
		__builtin_memcpy((to)->text, &word, 8);                        \
		__builtin_memcpy((to)->text + 8, &word, 8);                    \
	})
#define write_key(to, from)                                                    \
	({                                                                     \
		__u64 word;                                                    \
		__builtin_memcpy(&word, (from)->text, 8);                      \
		(to)->key = word;                                              \
	})

SEC("syscall") int on_names(struct step *step)
{
	OPERATE(names, struct name);
	return 0;
}

struct work {
	__u64 first, keys, rounds;
	__u64 done, bad;
};

/* Insert and delete keys at full speed; each value is its key. */
SEC("syscall") int churn(struct work *work)
{
	__u64 first = work->first, keys = work->keys, total = keys * work->rounds, done = 0, bad = 0, i;

	if (!keys)
		return 1;
	for (ads_each(i, total)) {
		__u64 key = first + (i * 7) % keys, value = key;
		int code = i & 1 ? numbers_delete(&key) : numbers_update(&key, &value);

		bad += code && code != ADS_ABSENT;
		done++;
	}
	work->done = done;
	work->bad = bad;
	return 0;
}

/* Pop the lowest until there are none: their sum in `first`. */
SEC("syscall") int pop_all(struct work *work)
{
	__u64 sum = 0, done = 0, bad = 0, i;
	int code = 0;

	for (ads_loop(i)) {
		__u64 key = 0, value = 0;

		code = numbers_pop_first(&key, &value);
		if (code)
			break;
		bad += key != value;
		sum += key;
		done++;
	}
	work->first = sum;
	work->done = done;
	work->bad = bad + (code != ADS_ABSENT && code != 0);
	return 0;
}
