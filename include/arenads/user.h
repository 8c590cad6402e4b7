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
 *
 * Compile with `arenads cflags`. Every function returns 0 or a negative enum ads_error; those
 * that open also other negative errno's. ads_arena_create() makes an arena of one's own.
 */
#ifndef ARENADS_USER_H
#define ARENADS_USER_H

#include "arena.h"
#include "array.h"
#include "check.h"
#include "directory.h"
#include "hashmap.h"
#include "intrusive.h"
#include "orderedmap.h"
#include "mpmc.h"
#include "queue.h"
#include "reap.h"
#include "reclaim.h"
#include "ring.h"

#endif /* ARENADS_USER_H */
