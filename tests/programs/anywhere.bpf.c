/* SPDX-License-Identifier: MIT */
/*
 * anywhere.bpf.c - operations on structures that Python made, known by their offsets only:
 * keys and orders of 8 bytes, values of 16. For tests that need many structures and one load.
 */
#include <arenads/bpf.h>

struct pair {
	__u64 first;
	__u64 second;
};

ADS_ARENA(16 * ADS_MIB);

char LICENSE[] SEC("license") = "GPL";

struct step {
	__u32 operation;
	__u32 offset; /* of the structure */
	__u64 key;
	__u64 first; /* the value, given or found */
	__u64 second;
};

enum { INSERT, REPLACE, UPDATE, DELETE, GET, PUSH, LEN };

SEC("syscall") int on_hashmap(struct step *step)
{
	struct ads_ref ref = {step->offset, sizeof(__u64), sizeof(struct pair), 0};
	struct pair pair = {step->first, step->second};
	__u64 key = step->key;
	__u32 entry;
	int rc;

	switch (step->operation) {
	case INSERT:
		return ads_hashmap_update(ads_here(), ref, &key, &pair, ADS_INSERT, &entry);
	case REPLACE:
		return ads_hashmap_update(ads_here(), ref, &key, &pair, ADS_REPLACE, &entry);
	case UPDATE:
		return ads_hashmap_update(ads_here(), ref, &key, &pair, ADS_ANY, &entry);
	case DELETE:
		return ads_hashmap_delete(ads_here(), ref, &key);
	case GET:
		rc = ads_hashmap_get(ads_here(), ref, &key, &pair);
		step->first = pair.first;
		step->second = pair.second;
		return rc;
	case LEN:
		return (int)ads_collection_len(ads_here(), ref);
	}
	return 1;
}

SEC("syscall") int on_list(struct step *step)
{
	struct ads_ref ref = {step->offset, 0, sizeof(struct pair), 0};
	struct pair pair = {step->first, step->second};
	__u64 order = step->key;
	__u32 entry;
	int rc;

	switch (step->operation) {
	case INSERT:
		return ads_list_update(ads_here(), ref, order, &pair, ADS_INSERT, &entry);
	case REPLACE:
		return ads_list_update(ads_here(), ref, order, &pair, ADS_REPLACE, &entry);
	case UPDATE:
		return ads_list_update(ads_here(), ref, order, &pair, ADS_ANY, &entry);
	case DELETE:
		return ads_list_delete(ads_here(), ref, order);
	case GET:
		rc = ads_list_get(ads_here(), ref, order, &pair);
		step->first = pair.first;
		step->second = pair.second;
		return rc;
	case PUSH:
		rc = ads_list_push(ads_here(), ref, &pair, &order, &entry);
		step->key = order;
		return rc;
	case LEN:
		return (int)ads_collection_len(ads_here(), ref);
	}
	return 1;
}

SEC("syscall") int on_queue(struct step *step)
{
	struct ads_ref ref = {step->offset, 0, sizeof(struct pair), 0};
	struct pair pair = {step->first, step->second};
	int rc;

	switch (step->operation) {
	case PUSH:
		return ads_queue_push(ads_here(), ref, &pair);
	case GET:
		rc = ads_queue_pop(ads_here(), ref, &pair);
		step->first = pair.first;
		step->second = pair.second;
		return rc;
	case LEN:
		return (int)ads_queue_len(ads_here(), ref);
	}
	return 1;
}

/* Objects are given and taken as the addresses that user space knows. */
SEC("syscall") int on_pool(struct step *step)
{
	struct ads_ref ref = {step->offset, 0, sizeof(struct pair), 0};
	struct ads_arena *a = ads_here();
	struct pair __arena *object;
	__u32 at = 0;
	int rc;

	(void)a;
	switch (step->operation) {
	case INSERT:
		rc = ads_pool_alloc(a, ref, &at);
		if (rc)
			return rc;
		object = ads_at(a, struct pair, at);
		ads_store(&object->first, step->first);
		ads_store(&object->second, step->second);
		step->key = (__u64)ads_user_form(object);
		return 0;
	case DELETE:
		return ads_pool_free(a, ref, (__u32)step->key);
	case LEN:
		return (int)ads_collection_len(a, ref);
	}
	return 1;
}
