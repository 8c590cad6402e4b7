/* SPDX-License-Identifier: GPL-2.0 */
/*
 * growing.bpf.c - a structure that begins nearly empty and grows while several write: two runners, each
 * on a CPU of its own, and programs that are attached and come in the middle of both.
 *
 * Keys that divide by 4 are inserted by one of the runners, one after the other, and then replaced by all and
 * never deleted; the others come and go. Every word of a value tells its key, who stored it, and how many
 * that writer had stored before.
 */
#include <arenads/bpf.h>

#ifndef MOST
#define MOST 40000 /* keys */
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#define WRITERS 64

struct value {
	__u64 words[6];
};

ADS_ARENA(64 * ADS_MIB);

#ifdef AS_SET
ADS_SET(records, __u64, 2 * MOST, FLAGS);
#elif defined(AS_LIST)
ADS_LIST(records, struct value, 2 * MOST);
#else
STRUCTURE(records, __u64, struct value, 2 * MOST, FLAGS);
#endif

struct context {
	__u64 rounds;
	__u64 round;   /* the number of the first one, then of the next */
	__u64 writer;  /* 0 or 1 */
	__u64 next;    /* the key that this writer inserts next; those of its own before it are there */
	__u64 limit;   /* keys are below this */
	__u64 refused; /* codes that no sequence of operations explains */
	__u64 full;    /* refused until what was replaced has been given back */
};

#ifdef AS_SET
static __always_inline int put(__u64 key, __u64 writer, __u64 round)
{
	int rc = records_insert(&key);

	return rc == ADS_EXISTS ? 0 : rc;
}
#define replace put
#else
static __always_inline void fill(struct value *value, __u64 key, __u64 writer, __u64 round)
{
	int i;

	for (i = 0; i < 6; i++)
		value->words[i] = key << 40 | writer << 32 | round;
}

#ifdef AS_LIST
#define AT(key) (key)
#else
#define AT(key) (&(key))
#endif

static __always_inline int put(__u64 key, __u64 writer, __u64 round)
{
	struct value value;

	fill(&value, key, writer, round);
	return records_update(AT(key), &value);
}

static __always_inline int replace(__u64 key, __u64 writer, __u64 round)
{
	struct value value;

	fill(&value, key, writer, round);
	return records_replace(AT(key), &value);
}
#endif

static __always_inline int take(__u64 key)
{
#ifdef AS_LIST
	return records_delete(key);
#else
	return records_delete(&key);
#endif
}

static __always_inline int step(__u64 key, __u64 writer, __u64 round)
{
#ifdef AS_SET
	if (key % 4 == 0)
		return 0; /* there is nothing to replace */
#endif
	if (key % 4 == 0)
		return replace(key, writer, round);
	return round & 1 ? take(key) : put(key, writer, round);
}

static volatile __u64 limit_now;

SEC("syscall") int churn(struct context *ctx)
{
	__u64 round = ctx->round, end = round + ctx->rounds, writer = ctx->writer, next = ctx->next;
	__u64 limit = ctx->limit, refused = 0, full = 0;

	if (!limit)
		return 1;
	limit_now = limit;
	for (; round < end && ads_may_loop(); round++) {
		__u64 key = (((round * 2 + writer) * 6364136223846793005ull + 1442695040888963407ull) >> 33) % limit;
		int rc;

		if (next < limit) {
			rc = put(next, writer, round);
			if (!rc)
				next += 8;
			else if (rc == ADS_FULL)
				full++;
			else
				refused++;
			continue;
		}
		rc = step(key, writer, round);
		if (rc == ADS_FULL)
			full++;
		else if (rc && rc != ADS_ABSENT)
			refused++;
	}
	ctx->round = round;
	ctx->next = next;
	ctx->refused = refused;
	ctx->full = full;
	return 0;
}

#if ADS_BPF
struct nested {
	__u64 rounds[WRITERS];
};

static struct nested nested;
static volatile __u64 nested_refused;

struct told {
	__u64 rounds;
	__u64 refused;
};

/* What the attached programs have done so far. */
SEC("syscall") int tell(struct told *told)
{
	__u64 rounds = 0;
	int i;

	for (i = 0; i < WRITERS; i++)
		rounds += nested.rounds[i];
	told->rounds = rounds;
	told->refused = nested_refused;
	return 0;
}

static __always_inline int nest(__u32 which)
{
	__u64 writer = 2 + 2 * bpf_get_smp_processor_id() + which, limit = limit_now, round;
	int rc;

	if (!limit || writer >= WRITERS)
		return 0;
	round = ++nested.rounds[writer & (WRITERS - 1)]; /* its own: it does not nest in itself */
	rc = step(bpf_get_prandom_u32() % limit, writer, round);
	if (rc && rc != ADS_ABSENT && rc != ADS_FULL)
		__sync_fetch_and_add(&nested_refused, 1);
	return 0;
}

SEC("raw_tp/sched_switch") int on_switch(void *context)
{
	return nest(0);
}

SEC("perf_event") int interrupt(void *context)
{
	return nest(1);
}
#endif

char LICENSE[] SEC("license") = "GPL";
