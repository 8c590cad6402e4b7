/* SPDX-License-Identifier: MIT */
/*
 * error.h - what the code that a function returned means, in words, for user space.
 *
 *	int rc = ads_hashmap_get(&arena, ages, &key, &value);
 *
 *	if (rc)
 *		fprintf(stderr, "ages: %s\n", ads_error_text(rc));
 */
#ifndef ARENADS_ERROR_H
#define ARENADS_ERROR_H

#include "arena.h"

#if !ADS_BPF

#include <string.h>

/* A constant text for each enum ads_error; for other negative errno's what strerror() says. */
static inline const char *ads_error_text(int code)
{
	switch (code) {
	case ADS_OK:
		return "success";
	case ADS_ABSENT:
		return "it is not there";
	case ADS_LOST:
		return "where a walk began has gone";
	case ADS_NO_MEMORY:
		return "the arena has no populated memory left";
	case ADS_LINKED:
		return "the node is in a list already";
	case ADS_EXISTS:
		return "the key is there already";
	case ADS_INVALID:
		return "an argument that no call can mean";
	case ADS_FULL:
		return "it is full";
	case ADS_READ_ONLY:
		return "the arena is open for reading only";
	case ADS_BUDGET:
		return "the loop budget ran out before the answer";
	case ADS_WRONG_ABI:
		return "an arena of another ABI version";
	case ADS_WRONG_ORDER:
		return "an arena of the other byte order";
	case ADS_BASE_TAKEN:
		return "the arena's addresses are in use in this process";
	case ADS_WRONG_TYPE:
		return "not an arena";
	case ADS_REMOVED:
		return "the structure was removed from the arena";
	case ADS_DAMAGED:
		return "the arena is damaged";
	case ADS_TOO_LONG:
		return "the record is longer than the ring can hold";
	case ADS_NOT_RESERVED:
		return "a commit without a reservation";
	default:
		return strerror(code < 0 ? -code : code);
	}
}

#endif

#endif /* ARENADS_ERROR_H */
