/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inserts, deletes and replaces at full speed, for a reader that takes snapshots. Keys that divide
 * by 4 are replaced and never deleted; the others come and go. Every word of a value tells its key
 * and the round that stored it.
 */
#include <arenads/bpf.h>

#ifndef STRUCTURE
#define STRUCTURE ADS_HASHMAP
#endif
#define KEYS 20000

struct value {
	__u64 words[6];
};

ADS_ARENA(64 * ADS_MIB);
STRUCTURE(records, __u64, struct value, 2 * KEYS);

struct context {
	__u64 rounds;
	__u64 round;   /* the number of the first one, then of the next */
	__u64 refused; /* codes that no sequence of operations explains */
};

static __always_inline int put(__u64 key, __u64 round)
{
	struct value value;
	int i;

	for (i = 0; i < 6; i++)
		value.words[i] = key << 40 ^ round;
	return records_update(&key, &value);
}

SEC("syscall") int fill(struct context *ctx)
{
	__u64 i;

	for (i = ctx->round; i < ctx->rounds && ads_may_loop(); i++)
		if (put(i, 0))
			return -1;
	ctx->round = i;
	return 0;
}

SEC("syscall") int churn(struct context *ctx)
{
	__u64 round = ctx->round, end = round + ctx->rounds, refused = 0;

	for (; round < end && ads_may_loop(); round++) {
		__u64 key = ((round * 6364136223846793005ull + 1442695040888963407ull) >> 33) % KEYS;
		int rc = key % 4 && round & 1 ? records_delete(&key) : put(key, round);

		if (rc && rc != ADS_ABSENT)
			refused++;
	}
	ctx->round = round;
	ctx->refused = refused;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
