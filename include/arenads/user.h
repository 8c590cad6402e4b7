/* SPDX-License-Identifier: MIT */
/*
 * user.h - everything, for the user side: C and C++ programs, and the Python extension.
 *
 *	struct ads_arena arena;
 *	struct ads_ref ages = {.key_size = 8, .value_size = 8};
 *	__u64 key = 1, value = 42;
 *	__u32 entry;
 *	int rc;
 *
 *	rc = ads_arena_open_path(&arena, "/dev/shm/people", 0);	what another process has pinned
 *	if (!rc)
 *		rc = ads_structure_open(&arena, "ages", ADS_KIND_HASHMAP, &ages);
 *	if (!rc)
 *		rc = ads_hashmap_update(&arena, ages, &key, &value, ADS_ANY, &entry);
 *	if (!rc)
 *		rc = ads_hashmap_get(&arena, ages, &key, &value);
 *	if (rc)
 *		fprintf(stderr, "people: %s\n", ads_error_text(rc));
 *	ads_arena_close(&arena);		also where it could not be opened
 *
 * An arena of one's own, in a file that others open by its path (with ADS_IN_KERNEL as fd: in the
 * kernel, and ads_bpf_pin(arena.fd, path) gives it a path):
 *
 *	int fd = open("/dev/shm/people", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
 *
 *	rc = fd < 0 ? -errno : ads_arena_create(&arena, 16 * ADS_MIB, 0, fd, ADS_MIB);
 *	if (!rc)
 *		rc = ads_collection_create(&arena, ADS_KIND_HASHMAP, &ages, 1024);
 *	if (!rc)
 *		rc = ads_structure_name(&arena, "ages", ADS_KIND_HASHMAP, ages, ages_schema);
 *
 * where ages_schema comes from `arenads schema --key u64 --value u64 --c ages_schema`, or is NULL.
 *
 * Compile with `arenads cflags`, and include this before system headers, or define _GNU_SOURCE. An
 * arena that could not be opened or made is none: nothing but ads_arena_close may be called. Every function returns 0 or a negative enum ads_error; those
 * that open also other negative errno's.
 */
#ifndef ARENADS_USER_H
#define ARENADS_USER_H

#include "arena.h"
#include "array.h"
#include "check.h"
#include "directory.h"
#include "error.h"
#include "hashmap.h"
#include "heap.h"
#include "intrusive.h"
#include "orderedmap.h"
#include "mpmc.h"
#include "queue.h"
#include "reap.h"
#include "reclaim.h"
#include "ring.h"
#include "rings.h"
#include "sweep.h"

#endif /* ARENADS_USER_H */
