/* SPDX-License-Identifier: GPL-2.0 */
/* Names every struct that lives in an arena, so that BTF describes it. */
#include <arenads/bpf.h>

ADS_ARENA(ADS_MIB);

#define NAMED(record) struct record (*the_##record)[1] = 0

NAMED(ads_root);
NAMED(ads_owner);
NAMED(ads_shard);
NAMED(ads_pool);
NAMED(ads_counters);
NAMED(ads_header);
NAMED(ads_table);
NAMED(ads_collection);
NAMED(ads_orderedmap);
NAMED(ads_entry);
NAMED(ads_node);
NAMED(ads_intrusive);
NAMED(ads_queue);
NAMED(ads_ring);
NAMED(ads_array);
NAMED(ads_mpmc);
NAMED(ads_directory_value);

SEC("syscall") int nothing(void *ctx)
{
	return the_ads_root != 0;
}

char LICENSE[] SEC("license") = "GPL";
