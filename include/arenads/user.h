/* SPDX-License-Identifier: MIT */
/*
 * user.h - everything, for the user side: C and C++ programs, and the Python extension.
 *
 *	struct ads_arena arena;
 *	struct ads_ref numbers = {.key_size = 8, .value_size = 8};
 *	struct ads_directory_value named;
 *	__u64 key = 1, value = 42;
 *	__u32 entry;
 *
 *	ads_arena_create(&arena, 16 * ADS_MIB, 0, memfd_create("numbers", 0), 0);
 *	ads_collection_create(&arena, ADS_KIND_HASHMAP, &numbers, 1000);
 *	ads_hashmap_update(&arena, numbers, &key, &value, ADS_ANY, &entry);
 *	ads_hashmap_get(&arena, numbers, &key, &value);
 */
#ifndef ARENADS_USER_H
#define ARENADS_USER_H

#include "arena.h"
#include "check.h"
#include "directory.h"
#include "hashmap.h"
#include "queue.h"

#endif /* ARENADS_USER_H */
