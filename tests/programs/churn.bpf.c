/* SPDX-License-Identifier: GPL-2.0 */
/* Random operations on a map that grows, with values that tell whose they are. */
#include <arenads/bpf.h>

struct value {
	__u64 key;
	__u64 stamp; /* key * 3 + 1: a torn or foreign value shows */
};

ADS_ARENA(64 * ADS_MIB);
ADS_HASHMAP(churned, __u64, struct value, 20000);

struct context {
	__u64 seed;
	__u64 rounds;
	__u64 keys;
	__u64 done;
	__u64 wrong;   /* values that are not their key's */
	__u64 refused; /* codes that no sequence of operations explains */
};

SEC("syscall") int churn(struct context *ctx)
{
	__u64 seed = ctx->seed, rounds = ctx->rounds, keys = ctx->keys, i;
	__u64 wrong = 0, refused = 0;

	if (!keys)
		return -1;
	for (i = ctx->done; i < rounds && ads_may_loop(); i++) {
		struct value value;
		__u64 key;
		int rc;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		key = (seed >> 33) % keys;
		value.key = key;
		value.stamp = key * 3 + 1;
		switch ((seed >> 28) & 3) {
		case 0:
			rc = churned_update(&key, &value);
			break;
		case 1:
			rc = churned_insert(&key, &value);
			if (rc == ADS_EXISTS)
				rc = 0;
			break;
		case 2:
			rc = churned_delete(&key);
			break;
		default:
			rc = churned_get(&key, &value);
			if (!rc && (value.key != key || value.stamp != key * 3 + 1))
				wrong++;
		}
		if (rc && rc != ADS_ABSENT)
			refused++;
	}
	ctx->done = i;
	ctx->wrong = wrong;
	ctx->refused = refused;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
