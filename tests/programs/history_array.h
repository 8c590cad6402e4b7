/* SPDX-License-Identifier: MIT */
/*
 * history_array.h - what the actors of history.h do on an array. Each word of an element is a cell of its
 * own: that is all that an array promises of a record of several. An element is the first of
 * HISTORY_APART, so that each is in another chunk, which comes as it is touched.
 */
#ifndef HISTORY_ARRAY_H
#define HISTORY_ARRAY_H

#define HISTORY_APART 512u
#define HISTORY_WORDS 4u

static ADS_INLINE struct ads_ref history_array_ref(__u64 structure)
{
	struct ads_ref ref = {(__u32)structure, 0, sizeof(struct history_value), 0};

	return ref;
}

/* The element with number c->key, copied or stored. */
ADS_GLOBAL int history_on_array(const struct history_call *c, struct history_value *value)
{
	struct ads_arena *a = ads_here();

	if (!c || !value)
		return ADS_INVALID;
	{
		struct ads_ref ref = history_array_ref(c->structure);
		__u32 entries = ads_array_entries(a, ref);
		__u32 index = (__u32)c->key * HISTORY_APART;

		return c->operation == HISTORY_GET ? ads_array_get(a, ref, entries, index, value)
						   : ads_array_set(a, ref, entries, index, value);
	}
}

/* Where word `word` of the element with number c->key is, or an error. */
ADS_GLOBAL __s64 history_array_word(const struct history_call *c, __u32 word)
{
	struct ads_arena *a = ads_here();
	__u32 element = 0;
	int rc;

	if (!c)
		return ADS_INVALID;
	{
		struct ads_ref ref = history_array_ref(c->structure);

		rc = ads_array_find(a, ref, ads_array_entries(a, ref), (__u32)c->key * HISTORY_APART, &element);
	}
	return rc ? (__s64)rc : (__s64)element + 8 * word;
}

/* All words, one after the other. */
static ADS_INLINE void history_step_element(struct ads_arena *a, struct history_actor __arena *me,
					    struct history_call *c)
{
	struct history_value value = history_value_of(c->in);
	__u64 number = c->key, invoked = history_tick(a, me), returned;
	int code = history_on_array(c, &value);
	__u32 i;

	returned = history_tick(a, me);
	for (i = 0; i < HISTORY_WORDS; i++) {
		c->key = HISTORY_WORDS * number + i;
		c->in = c->operation == HISTORY_GET ? 0 : value.word[i];
		c->out = c->operation == HISTORY_GET ? value.word[i] : 0;
		history_log(a, me, c, code, invoked, returned);
	}
}

static ADS_INLINE void history_step_array(struct ads_arena *a, struct history_actor __arena *me)
{
	struct history_call c = {.structure = me->structure, .operation = me->mix[history_random(me) & 15]};
	__u64 keys = me->keys, window = me->window, goal = me->goal;
	__u32 word = (__u32)history_random(me) % HISTORY_WORDS;
	__u64 expected = 0, number, invoked;
	__s64 at;
	int code;

	if (window && window < keys && goal) /* it passes over all of them while the work goes on */
		number = me->done * (keys - window) / goal + history_random(me) % window;
	else
		number = keys ? history_random(me) % keys : 0;
	c.key = number;
	c.in = c.operation == HISTORY_GET ? 0 : history_new_value(me);
	if (c.operation == HISTORY_GET || c.operation == HISTORY_UPDATE) {
		history_step_element(a, me, &c);
		return;
	}
	invoked = history_tick(a, me);
	at = history_array_word(&c, word);
	code = at > 0 ? ADS_OK : (int)at;
	c.key = HISTORY_WORDS * number + word;
	if (!code && c.operation == HISTORY_COMPARE) {
		struct history_call get = {.operation = HISTORY_GET, .key = c.key};

		expected = get.out = ads_load(ads_at(a, __u64, (__u32)at));
		history_log(a, me, &get, ADS_OK, invoked, history_tick(a, me));
		invoked = history_tick(a, me);
		c.out = ads_cas(ads_at(a, __u64, (__u32)at), expected, c.in);
		code = c.out == expected ? ADS_OK : ADS_EXISTS;
	} else if (!code && c.operation == HISTORY_EXCHANGE) {
		c.out = ads_xchg(ads_at(a, __u64, (__u32)at), c.in);
	} else if (!code) {
		c.in <<= 8; /* no sum is another's value */
		c.out = ads_add(ads_at(a, __u64, (__u32)at), c.in);
	}
	history_log(a, me, &c, code, invoked, history_tick(a, me));
}

#endif /* HISTORY_ARRAY_H */
