/* SPDX-License-Identifier: MIT */
/*
 * orders.h - every memory order of the other headers, with its partner. Nothing but this table.
 *
 * A number stands for one kind of shared word. At the operations, and below:
 *
 *	R	publishes: ads_store_release, or a read-modify-write, which is a full barrier. What
 *		comes before it is visible to whoever sees what it wrote.
 *	A	takes what the R of its number published: ads_load_acquire. What comes after it
 *		happens after that R and after what came before that R.
 *	F	ads_fence_acquire: the loads before it, of words that others may be overwriting, are
 *		done before the load after it, which tells whether they were.
 *
 * A read-modify-write of a word that an R has published is an R of the same number: it passes
 * on what was taken before it; where nothing else takes it first, it is an A too. A line here names the operation, the file and the functions,
 * with a count if a function does it more than once; tests/test_orders.py compares that with
 * the code, in both directions, and the code with what the compilers made of it.
 *
 * What has no label orders nothing: ads_load and ads_store, and an ads_add whose result nobody
 * looks at, which counts something. And queue.h's head_seen: what a producer does after loading
 * it is to store into a slot, and no machine does a store before the branch that it depends on.
 * And ring.h's committed: its producers take over from one another by something that orders, such
 * as a lock, the scheduler of a CPU, or a death that was seen.
 *
 * 1  root.cursor: all blocks before it are finished.
 *	R1   cas     alloc.h: ads_block_finish
 *	A1   load    alloc.h: ads_block_claim
 *	A1   load    check.h: ads_check_chunks, ads_check_finish, ads_array_check, ads_heap_blocks
 *	Without it a claim is compared with its owner's words of before the last claim: a new chunk
 *	takes the place of one with entries left, and those are lost.
 *
 * 2  shard.free, the stack of free entries: what is written in the topmost and below. shard.spare.
 *	R2   cas     alloc.h: ads_shard_help, ads_shard_pop_top (2), ads_shard_push
 *	R2   cas     alloc.h: ads_spare_take
 *	R2   store   alloc.h: ads_spare_give
 *	R2   cas     reclaim.h: ads_pool_seal
 *	A2   load    alloc.h: ads_shard_pop, ads_pool_used, ads_pool_return, ads_pool_return_at_once
 *	A2   load    reclaim.h: ads_shard_empty, ads_pool_seal, ads_pool_drain
 *	A2   load    check.h: ads_check_stack, ads_check_free, ads_check_help
 *	A2   load    reap.h: ads_reap_help
 *	F2   fence   alloc.h: ads_shard_push, ads_pool_used
 *	F2   fence   check.h: ads_check_stack
 *	Without it the one who pops reads what the entry held before it was pushed, and makes an
 *	entry that is in use the top. Without the fences a depth may be of another moment: a spare
 *	shard refuses an entry and is not full, a length passes for exact and is not. The acquire in
 *	ads_pool_return is also before the epoch that it looks at again: a top that it reads after
 *	the shard was sealed comes with the next epoch.
 *
 * 3  link words, of entries and of shortcuts: what they lead to has been written.
 *	R3   cas     list.h: ads_walk_look, ads_walk_unlink, ads_list_store_from (2), ads_list_delete_from, ads_list_push
 *	R3   store   list.h: ads_entry_keep
 *	R3   cas     orderedmap.h: ads_orderedmap_descend
 *	R3   cas     intrusive.h: ads_node_settle, ads_node_delete (2), ads_nodes_link
 *	R3   cas     check.h: ads_check_nodes
 *	R3   cas     reap.h: ads_reap_node
 *	R3   store   intrusive.h: ads_node_release
 *	R3   cas     hashmap.h: ads_shortcut_link (4)
 *	R3   cas     alloc.h: ads_pool_free, ads_shard_help (2), ads_chunk_help, ads_pool_return
 *	R3   store   alloc.h: ads_pool_return, ads_pool_return_at_once, ads_spare_give
 *	A3   load    list.h: ads_walk_enter, ads_walk_look
 *	A3   load    hashmap.h: ads_hashmap_detour
 *	A3   load    orderedmap.h: ads_orderedmap_look, ads_down_alive
 *	A3   load    intrusive.h: ads_node_claim, ads_node_order
 *	A3   load    check.h: ads_check_tables, ads_check_back, ads_check_links, ads_check_nodes
 *	A3   load    check.h: ads_check_slots, ads_check_stack, ads_check_free
 *	A3   load    alloc.h: ads_shard_help, ads_shard_helped, ads_chunk_help
 *	A3   load    reap.h: ads_reap_judge, ads_reap_node
 *	R3   cas     mpmc.h: ads_mpmc_helped, ads_mpmc_disown
 *	A3   load    mpmc.h: ads_mpmc_helped, ads_mpmc_disown
 *	Without it a reader follows a link to an entry and finds there what its last owner left,
 *	hash, key or value. User space may also find it beyond the populated mark. And who helps with
 *	an entry changes a link that was read after the top or the chunk had moved on.
 *
 * 4  ring.tail: the records before it are whole.
 *	R4   store   queue.h: ads_queue_push
 *	A4   load    queue.h: ads_queue_pop, ads_queue_walk
 *	Without it the consumer copies a slot before its record is there.
 *
 * 5  ring.head: the slots before it have been read.
 *	R5   store   queue.h: ads_queue_pop
 *	A5   load    queue.h: ads_queue_push, ads_queue_len, ads_queue_walk
 *	F5   fence   queue.h: ads_queue_read
 *	Without it the producer overwrites a record that is still being copied; and a length is
 *	taken from a tail of before the head, and is below 0. Without the fence one who only reads
 *	takes halves of two records for one.
 *
 * 6  header.table: the newest table names the one before it.
 *	R6   cas     alloc.h: ads_block_finish
 *	A6   load    table.h: ads_table_newest
 *	A6   load    hashmap.h: ads_hashmap_bucket
 *	A6   load    directory.h: ads_structure_check
 *	Without it a table's `previous` reads 0, and a map that grows looks damaged.
 *
 * 7  ring.tail_seen: the records before it are whole, says a consumer that has gone.
 *	R7   store   queue.h: ads_queue_pop
 *	A7   load    queue.h: ads_queue_pop
 *	Without it a consumer that takes over relies on an acquire that another CPU did, and copies
 *	a slot before its record is there.
 *
 * 8  root.directory: the list of names is one.
 *	R8   cas     directory.h: ads_directory
 *	A8   load    directory.h: ads_directory
 *	Without it the first one to look for a name finds a directory without header or head.
 *
 * 9  root.populated: the pages below it exist.
 *	R9   cas     memory.h: ads_arena_populate
 *	A9   load    alloc.h: ads_block_claim
 *	A9   load    layout.h: ads_arena_reaches
 *	A9   load    memory.h: ads_arena_populate
 *	Without it a BPF program claims a block whose pages are not there, and its stores vanish.
 *
 * 10  a block's header word: its owner, whose stride and kind tell the block's size.
 *	R10  cas     alloc.h: ads_block_claim
 *	A10  load    alloc.h: ads_block_claim
 *	A10  load    check.h: ads_check_chunks, ads_pool_chunk_of, ads_check_finish, ads_array_check (2), ads_check_nodes
 *	A10  load    check.h: ads_heap_blocks
 *	A10  load    directory.h: ads_structure_check, ads_array_check_header, ads_mpmc_check
 *	A10  load    ring.h: ads_ring_believe
 *	A10  load    heap.h: ads_heap_next
 *	Without it one who finishes the claim of another reads an owner without a stride, and
 *	reports damage.
 *
 * 11  pool.carved: the header word of the newest chunk.
 *	R11  cas     alloc.h: ads_block_finish
 *	A11  load    alloc.h: ads_pool_used, ads_pool_refill
 *	A11  load    check.h: ads_check_chunks (2)
 *	Without it a length counts as used the entries of a chunk that is in the books and not yet
 *	in its shard.
 *
 * 12  shard.chunk: the entries of the chunk lie below the populated mark.
 *	R12  cas     alloc.h: ads_chunk_give, ads_shard_take (2), ads_chunk_help
 *	A12  load    alloc.h: ads_shard_take, ads_pool_used
 *	A12  load    check.h: ads_check_chunks, ads_check_help
 *	A12  load    reap.h: ads_reap_help
 *	Without it user space takes an entry, looks at an older mark, and reports damage.
 *
 * 13  hash, key and value of an entry that is used again: its link has changed before.
 *	R13  store   alloc.h: ads_shard_push
 *	R13  store   list.h: ads_entry_fill
 *	R13  cas     alloc.h: ads_shard_pop_top (2), ads_spare_take
 *	R13  cas     intrusive.h: ads_node_claim
 *	F13  fence   list.h: ads_walk_look, ads_walk_find, ads_list_copy_value, ads_list_first, ads_scan_step (2)
 *	F13  fence   intrusive.h: ads_node_settle
 *	F13  fence   heap.h: ads_pool_next
 *	F13  fence   orderedmap.h: ads_orderedmap_descend (2)
 *	F13  fence   check.h: ads_check_links
 *	The words themselves are ads_store and ads_load; a reader that sees one of the next owner's
 *	then sees that the link through which it came, or the entry's own, is another.
 *	Without it a reader takes another key's value, or the pool's bookkeeping, for its own.
 *
 * 14  root.magic: the rest of the root.
 *	R14  store   memory.h: ads_arena_format
 *	A14  load    memory.h: ads_arena_open
 *	Without it a process that opens a file while it is made finds a root half written, and
 *	reports damage where there is no arena yet.
 *
 * 15  the word of an array's chunk: the chunk lies below the populated mark.
 *	R15  cas     alloc.h: ads_block_finish
 *	A15  load    array.h: ads_array_chunk_word, ads_array_touch
 *	A15  load    check.h: ads_array_check (2)
 *	Without it user space finds the chunk beyond the mark that it knows, and reports damage.
 *
 * 16  pool.epoch: the shard of the epoch to come was empty.
 *	R16  cas     reclaim.h: ads_pool_seal
 *	A16  load    reclaim.h: ads_pool_seal, ads_pool_drain
 *	Without it one who seals sees that shard as it was before, empty, and lets entries retire to
 *	those that have waited and are about to be given.
 *
 * 17  an entry's life, which goes up after its mark and before it can be taken again.
 *	R17  store   alloc.h: ads_pool_outlive
 *	F17  fence   list.h: ads_walk_restart
 *	F17  fence   orderedmap.h: ads_orderedmap_look, ads_orderedmap_remember, ads_down_alive
 *	Without it a walk begins at an entry that was deleted, and that stands elsewhere by now.
 *
 * 18  header.removed: the name may lead to another structure.
 *	R18  cas     directory.h: ads_directory_remove
 *	A18  load    directory.h: ads_structure_removed
 *	Without it a process that finds the new structure of the name may still change the old one.
 *
 * 19  owner.hand: the link of an entry that is in a hand no more has changed.
 *	R19  store   owner.h: ads_hand_store
 *	A19  load    reap.h: ads_reap_contested
 *	A19  load    check.h: ads_check_hands
 *	Without it a reaper sees the empty hand and the link of before, and takes the entry, which
 *	has been published, for a dead thread's.
 *
 * 21  owner.who: where the thread is one, and that its hands were empty before.
 *	R21  cas     owner.h: ads_owner_exit, ads_owner_register (2)
 *	R21  cas     reap.h: ads_owner_reap (3)
 *	R21  store   owner.h: ads_owner_leave
 *	A21  load    owner.h: ads_owner_exit
 *	A21  load    reap.h: ads_reap_contested, ads_reap_has_namesake, ads_reap_begin, ads_owner_reap
 *	A21  load    check.h: ads_check_hands, ads_check_writers
 *	Without it a thread is looked for in another pid namespace, is not found there, and passes
 *	for dead.
 *
 * 22  root.reaper: what the reaper before has done is done.
 *	R22  cas     reap.h: ads_reap_begin, ads_owner_reap
 *	A22  cas     reap.h: ads_reap_begin
 *	Without it an entry is given back twice, by the reaper before and by the next.
 *
 * 23  an ordered map's hints: the entry has been in its list, in the life that the hint tells.
 *	R23  store   orderedmap.h: ads_hint_store
 *	F23  fence   orderedmap.h: ads_hint_find
 *	Without it the link of an entry that was published is read as it was before, and one that
 *	its maker has not published passes for a key's.
 *
 * 31  the byte ring's tail: the records before it are whole.
 *	R31  store   ring.h: ads_ring_make_room, ads_ring_submit, ads_ring_publish, ads_ring_append
 *	A31  load    ring.h: ads_ring_waits, ads_ring_walk, ads_ring_check
 *	Without it the consumer copies a record before it is there.
 *
 * 32  its head: what is before it has been read, or is dropped.
 *	R32  store   ring.h: ads_ring_pop, ads_ring_release
 *	R32  cas     ring.h: ads_ring_drop (2), ads_ring_take
 *	A32  load    ring.h: ads_ring_make_room, ads_ring_waits, ads_ring_walk, ads_ring_waiting
 *	A32  load    ring.h: ads_ring_dropped, ads_ring_check
 *	F32  fence   ring.h: ads_ring_take, ads_ring_read, ads_ring_dropped, ads_ring_check
 *	Without it a record is written over while it is copied, and a copy of halves of two passes
 *	for a record.
 *
 * 33  its tail_seen, as 7: the records before it are whole, says a consumer that has gone.
 *	R33  store   ring.h: ads_ring_waits
 *	A33  load    ring.h: ads_ring_waits
 *	Without it a consumer that takes over copies a record before it is there.
 *
 * 34  its producer, where there are many: what the one before has written and committed.
 *	R34  store   rings.h: ads_rings_leave
 *	R34  cas     rings.h: ads_rings_take
 *	R34  cas     reap.h: ads_reap_rings
 *	A34  cas     rings.h: ads_rings_take
 *	Without it a producer begins where the one before did, and writes over its record.
 *
 * 41  a slot of an MPMC ring: the record in its entry, and the link of the entry; and that the record
 *     of the lap before was copied.
 *	R41  cas     mpmc.h: ads_mpmc_fill_slot (2), ads_mpmc_push, ads_mpmc_pop, ads_mpmc_revoke
 *	A41  load    mpmc.h: ads_mpmc_seek, ads_mpmc_help, ads_mpmc_find
 *	A41  load    check.h: ads_check_slots
 *	F41  fence   mpmc.h: ads_mpmc_read
 *	Without it a consumer copies an entry before its record is there, or while the next is written.
 *	Without the fence one who only reads takes what the entry's next owner writes for the record.
 *
 * 42  head and tail of an MPMC ring: the slots before it have been popped, or pushed to.
 *	R42  cas     mpmc.h: ads_mpmc_passed
 *	A42  load    mpmc.h: ads_mpmc_start
 *	Without it a position is ahead of what its slot seems to be, and the ring passes for damaged.
 *
 * 43  shard.spare of an MPMC ring: the entry's link is LIVE, and who had it does not write any more.
 *	R43  store   mpmc.h: ads_mpmc_let_go
 *	R43  cas     mpmc.h: ads_mpmc_spared, ads_mpmc_take
 *	A43  load    mpmc.h: ads_mpmc_take
 *	Without it the next program's version of the link is that of before.
 */
#ifndef ARENADS_ORDERS_H
#define ARENADS_ORDERS_H
#endif /* ARENADS_ORDERS_H */
