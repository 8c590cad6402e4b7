/* SPDX-License-Identifier: MIT */
/*
 * event.h - one operation of a recorded history, as its actor writes it down.
 *
 * Time is a word that every actor adds 1 to, before an operation and after it. So moments are
 * exact, all different, and one operation that returned before another was invoked has the
 * lower numbers, whatever CPU or side it ran on. No clock promises that at this distance. The
 * price: an add is a full barrier, so each operation begins and ends with one.
 */
#ifndef EVENT_H
#define EVENT_H

#include <arenads/arena.h>

/* What an operation is given -> what it gives. */
#define HISTORY_OPERATIONS(X)                                                          \
	X(GET)		    /* key -> out */                                           \
	X(FIND)		    /* key */                                                  \
	X(INSERT)	    /* key, in */                                              \
	X(REPLACE)	    /* key, in */                                              \
	X(UPDATE)	    /* key, in */                                              \
	X(DELETE)	    /* key */                                                  \
	X(POP)		    /* key -> out */                                           \
	X(LOOKUP_OR_INSERT) /* key, in */                                              \
	X(ADD)		    /* key, in: in place; out is what it was */                \
	X(SCAN)		    /* recorded as a GET of each key: see history.h */         \
	X(PUSH)		    /* list: in -> key, the order. queue: key is its number, in */ \
	X(TAKE)		    /* queue: key -> out. ring: in, the room there is */       \
	X(ALLOC)	    /* -> key, the object; in is what its owner writes there */ \
	X(FREE)		    /* key */                                                  \
	X(LOWER_BOUND)	    /* in, a key -> key, out: the first that is not below it */ \
	X(END)		    /* in, a key: an iteration ended without one from there on */ \
	X(RANGE)	    /* recorded as LOWER_BOUND of each step, and an END */     \
	X(POP_FIRST)	    /* -> key, out */                                          \
	X(EXCHANGE)	    /* key, in -> out, what it was */                          \
	X(COMPARE)	    /* key, in -> out, what it was; ADS_EXISTS: not what was expected */ \
	X(APPEND)	    /* ring: key, in: to be published */                       \
	X(PUBLISH)	    /* ring: key */                                            \
	X(DISCARD)	    /* ring: key, in: room for it was found, and given up */   \
	X(LOOK)		    /* ring: key, in, how many are before it -> out */         \
	X(RELEASE)	    /* ring: key, in, how many */                              \
	X(FIRST)	    /* ring: key -> out, which stays */                        \
	X(REMOVE)	    /* in, a node */                                           \
	X(CONTAINS)	    /* in, a node -> key, its order */

enum history_operation {
#define HISTORY_NUMBER(name) HISTORY_##name,
	HISTORY_OPERATIONS(HISTORY_NUMBER)
#undef HISTORY_NUMBER
};

/* Codes of an operation besides 0 and enum ads_error. The first two are never right. */
enum history_code {
	HISTORY_TORN = 1,  /* words of several values */
	HISTORY_TWICE = 2, /* an iteration returned a key again */
	HISTORY_REFUSED = 4, /* by whichever ring it was: not written down */
	HISTORY_GONE = 3,  /* all that waited was taken before it was read: that says nothing */
};

struct history_event {
	__u64 invoked, returned;
	__u16 operation; /* enum history_operation */
	__u16 list;	 /* of nodes: which */
	__s32 code;
	__u64 key;
	__u64 in, out; /* values, never 0 but in an array */
};

ADS_STATIC_ASSERT(sizeof(struct history_event) == 48, "test_histories.py reads it");

#define HISTORY_ACTORS 16

/* What a counter is inserted as, so that it is never 0. */
#define HISTORY_COUNT_FROM 1

/* Bytes of a ring's record with this value. */
static inline __u32 history_length(__u64 value)
{
	return (__u32)value & 255;
}

#endif /* EVENT_H */
