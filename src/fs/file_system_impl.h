// SPDX-License-Identifier: GPL-2.0-or-later
// FileSystem over a Store and a DataContext. Each namespace operation is one transaction.
//
// Locks, in the order of their ranks: the rename mutex (directories may move between parents only
// under it, so a walk up the `parent` fields sees one tree), the `names` of parent directories
// (two: by inode number), then the attribute mutexes of all inodes involved (ItemUpdate). The
// emptiness of a directory that is removed is checked under its attribute mutex, which every
// insertion takes too: its `names` is not needed. ContentsUse ends after all locks.
#pragma once

#include <atomic>
#include <memory>

#include "data/file_data.h"
#include "format/acl.h"
#include "fs/directory.h"
#include "fs/file_system.h"
#include "fs/flusher.h"
#include "fs/handles.h"
#include "fs/inode_table.h"
#include "fs/item_update.h"
#include "fs/orphans.h"
#include "fs/xattrs.h"

namespace stablefs {

// What a FileSystem stands on; tests put their own in.
struct FileSystemParts {
  BlockDevice* device = nullptr;   // for counters; may be null
  std::unique_ptr<Health> health;  // shared by store and data; may be null
  std::unique_ptr<Store> store;
  std::unique_ptr<DataContext> data;
  NameHash name_hash;
};

using EmitEntry = std::function<bool(const DirectoryEntry&, const Attributes*)>;

class FileSystemImpl final : public FileSystem {
 public:
  FileSystemImpl(FileSystemParts parts, const FileSystemOptions& options);
  ~FileSystemImpl() override;
  Status start();  // once: recovery, threads

  Status close() override;
  void stop() override;
  void abort() override;

  Result<Attributes> lookup(Ino parent, std::string_view name) override;
  void forget(Ino ino, uint64_t lookups) override;
  Result<Attributes> make_node(Ino parent, std::string_view name, const NewFile& file) override;
  Result<Attributes> make_directory(Ino parent, std::string_view name,
                                    const NewFile& file) override;
  Result<Attributes> make_symlink(Ino parent, std::string_view name, std::string_view target,
                                  const NewFile& file) override;
  Result<std::pair<Attributes, HandleId>> create(Ino parent, std::string_view name,
                                                 const NewFile& file,
                                                 const OpenFlags& flags) override;
  Result<std::pair<Attributes, HandleId>> create_unnamed(Ino directory, const NewFile& file,
                                                         const OpenFlags& flags) override;
  Result<Attributes> link(Ino ino, Ino new_parent, std::string_view new_name) override;
  Status unlink(Ino parent, std::string_view name) override;
  Status remove_directory(Ino parent, std::string_view name) override;
  Status rename(Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                RenameMode mode, const NewFile* whiteout = nullptr) override;
  Result<std::string> read_symlink(Ino ino) override;

  Result<Attributes> get_attributes(Ino ino) override;
  Result<Attributes> set_attributes(Ino ino, const AttributeChange& change) override;
  Status set_flags(Ino ino, uint32_t flags) override;

  Result<std::vector<std::byte>> get_xattr(Ino ino, std::string_view name) override;
  Status set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value,
                   const XattrChange& change) override;
  Status remove_xattr(Ino ino, std::string_view name) override;
  Result<std::vector<std::string>> list_xattrs(Ino ino) override;

  Status read_directory(Ino ino, uint64_t after, bool count_lookup, const EmitEntry& emit) override;

  Result<HandleId> open_file(Ino ino, const OpenFlags& flags) override;
  void release(HandleId handle) override;
  bool note_cached_reads(HandleId handle) override;
  Result<uint64_t> read(Ino ino, HandleId handle, uint64_t offset_bytes,
                        std::span<std::byte> out) override;
  Result<uint64_t> write(Ino ino, HandleId handle, uint64_t offset_bytes,
                         const BufferSlice& payload, const WriteOptions& options = {}) override;
  void write_direct(Ino ino, HandleId handle, uint64_t offset_bytes, const BufferSlice& payload,
                    const WriteOptions& options, DirectDone done) override;
  Status may_cache_write(Ino ino, HandleId handle) override;
  Status punch(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes) override;
  Status zero(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes,
              bool keep_size) override;
  Status allocate(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes,
                  bool keep_size) override;
  Result<uint64_t> copy_range(const CopyPlace& source, const CopyPlace& target,
                              uint64_t length_bytes, uint64_t flags) override;
  Status flush(Ino ino, HandleId handle) override;
  Status fsync(Ino ino, HandleId handle, bool data_only) override;
  Result<uint64_t> seek(Ino ino, HandleId handle, uint64_t offset_bytes, bool hole,
                        const std::function<bool()>& settle = {}) override;

  Result<uint16_t> app_tag(Ino ino) override;
  Status set_app_tag(Ino ino, uint16_t app_tag) override;
  Result<std::vector<Run>> mapped_runs(Ino ino, uint64_t first_block, uint64_t end_block) override;
  Result<std::vector<DamageEntry>> damage(Lba from, size_t limit) override;
  Status clear_damage() override;

  Status sync_all() override;
  Result<uint64_t> trim(uint64_t offset_bytes, uint64_t length_bytes,
                        uint64_t least_bytes) override;
  FsStatistics statistics() override;
  Statistics counters() override;
  std::vector<InFlight> in_flight(size_t limit) override { return data_->in_flight(limit); }
  Store& store() override { return *store_; }
  void set_stable_policy(StablePolicy policy) override { data_->stable().set_policy(policy); }
  void set_atime_policy(AtimePolicy policy, bool directory_atime) override;
  const Health* health() const override { return health_.get(); }

  size_t inodes_in_memory() { return inodes_.size(); }  // for tests
  void run_flusher() { (void)flusher_.flush().ok(); }   // for tests
  void drain_orphans() { orphans_.drain(); }            // for tests

 private:
  // What becomes of an inode that loses a link.
  enum class Fate : uint8_t { stays, doomed, erased };
  // A rename between its checks and its commit.
  struct Renaming;
  // An open file, or a use of the contents for the length of one call.
  struct FileUse {
    std::shared_ptr<OpenFile> open;
    ContentsUse use;
    Inode& inode() const { return open ? *open->use : *use; }
  };

  Status check_running() const;
  // For fallocate: changes a range of a regular file, once more when space of removed files comes
  // free, durably on a synchronous handle.
  Status change_range(Ino ino, HandleId handle, uint64_t length_bytes,
                      const std::function<Status(FileData&)>& change);
  Status check_changeable() const;
  Timestamp now() const { return options_.clock->wall_time(); }

  Result<InodeRef> directory(Ino ino);
  Result<InodeRef> child(const Dirent& dirent);
  Result<ContentsUse> use_contents(Ino ino);
  Result<ContentsUse> use_child(const Dirent& dirent);
  Result<FileUse> use_file(Ino ino, HandleId handle);
  Result<FileUse> use_regular_file(Ino ino, HandleId handle);
  // Space of removed files that is still being freed counts as free.
  template <class Attempt>
  auto with_freed_space(const Attempt& attempt) {
    auto result = attempt();
    const bool full = !result.ok() && result.error().code() == ErrorCode::no_space;
    if (full && orphans_.drain()) return attempt();
    return result;
  }
  Attributes attributes_of(Inode& inode);

  // The new inode, looked up once.
  Result<InodeRef> create_inode(Ino parent, std::string_view name, const NewFile& file,
                                std::string_view target);
  Result<InodeRef> try_create_inode(Ino parent, std::string_view name, const NewFile& file,
                                    std::string_view target);
  Result<InodeRef> try_create_unnamed(Ino directory, const NewFile& file);
  InodeRef new_inode(const NewFile& file, Timestamp time);
  Result<std::pair<Attributes, HandleId>> open_created(InodeRef inode, const OpenFlags& flags);
  // One link less, in `update`; after the commit (or its failure) `settle` with what it said.
  Fate drop_link(ItemUpdate& update, Inode& inode, Timestamp time);
  void settle(Inode& inode, Fate fate, bool committed);
  Status remove_entry(Ino parent, std::string_view name, bool is_directory);

  Result<InodeRef> find_child(Inode& parent, std::string_view name);
  Status find_source(Renaming& renaming, std::string_view name);
  Status find_target(Renaming& renaming);
  Status write_back_before_replacing(Renaming& renaming);
  Status rename_locked(Renaming& renaming, std::string_view name);
  Status check_rename(Renaming& renaming);
  Status check_rename_flags(Renaming& renaming);
  Status check_not_below(Inode& moved, Ino directory);
  Status commit_replace(Renaming& renaming);
  void leave_old_name(Renaming& renaming, ItemUpdate& update);
  Status commit_exchange(Renaming& renaming);

  // --- extended attributes; the caller holds the inode's attribute mutex (an ItemUpdate)
  Result<bool> has_xattrs(Inode& inode);
  Result<std::optional<Xattrs::Found>> find_xattr(Inode& inode, std::string_view name);
  Status put_xattr(ItemUpdate& update, Inode& inode, std::string_view name,
                   std::span<const std::byte> value, XattrMode mode);
  Status erase_xattr(ItemUpdate& update, Inode& inode, std::string_view name);
  // Erases all, unless that is too much for this transaction.
  bool erase_few_xattrs(ItemUpdate& update, Inode& inode);
  void note_xattrs(Inode& inode, std::string_view put_name);
  Result<std::optional<Acl>> find_acl(Inode& inode, std::string_view name);
  Status put_acl(ItemUpdate& update, Inode& inode, std::string_view name,
                 std::span<const std::byte> value, const XattrChange& change);
  // A new mode changes the access list, too.
  Status follow_mode(ItemUpdate& update, Inode& inode, uint32_t mode);
  // What an inode made in `parent` gets from it: lists and flags. `created`: in the update, with
  // the mode and the umask it was asked for.
  Status inherit(ItemUpdate& update, Inode& parent, Inode& created, uint32_t umask);
  // File capabilities end with any change of contents or owner.
  Status drop_capability(Inode& inode);
  Status drop_capability(ItemUpdate& update, Inode& inode);

  Status check_attributes_changeable(Inode& inode, const AttributeChange& change);
  Status change_attributes(Inode& inode, const AttributeChange& change);
  Status truncate(Inode& inode, uint64_t size_bytes);
  Status apply_set_ids(Inode& inode, SetIds set_ids);
  bool note_access(Inode& inode);  // true: the access time has moved
  Status check_may_write(const FileUse& file, uint64_t offset_bytes);
  Result<uint64_t> write_data(Inode& inode, uint64_t offset_bytes, const BufferSlice& payload,
                              std::optional<Timestamp> time);
  // Instead of a count: the answer comes later.
  static constexpr uint64_t kBegun = ~0ull;
  Status begin_direct(Inode& inode, uint64_t offset_bytes, const BufferSlice& payload,
                      const DirectDone& done);
  Result<uint64_t> write_direct_synced(const FileUse& file, uint64_t offset_bytes,
                                       const BufferSlice& payload, WriteSync sync);
  Result<uint64_t> copy_data(Inode& source, Inode& target, const CopyPlace& from,
                             const CopyPlace& to, uint64_t length_bytes);
  // Its error is told by what the call returns.
  Status sync_written(const FileUse& file, WriteSync sync);
  Status sync_if_synchronous(const FileUse& file);
  Status sync_inode(Inode& inode, bool data_only);
  Status sync_everything();
  Status settle_free_space();
  bool may_have_lost(Inode& inode);
  Status clear_damage_of(Ino ino, std::span<const Lba> blocks);

  // A directory being read.
  struct Listing {
    Inode& inode;
    uint64_t after;
    const bool count_lookup;
    const EmitEntry& emit;
    bool more = true;
  };
  Status emit_dots(Listing& listing);
  Status emit_batch(Listing& listing);

  const FileSystemOptions options_;
  std::atomic<AtimePolicy> atime_;
  std::atomic<bool> directory_atime_;
  BlockDevice* const device_;
  const std::unique_ptr<Health> health_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<DataContext> data_;
  InodeTable inodes_;
  Directories directories_;
  Xattrs xattrs_;
  Orphans orphans_;
  Flusher flusher_;
  HandleTable handles_;
  InodeRef root_;  // stays in memory: the kernel never looks it up
  Mutex rename_mutex_{LockRank::rename, "rename"};
  std::atomic<uint64_t> losses_told_by_syncfs_{0};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> ended_{false};  // close() or stop() was called
  bool closed_ = false;             // close() has stopped the data layer
};

// A type, permissions and times for an inode about to be created.
InodeAttributes new_attributes(const NewFile& file, Timestamp now);

}  // namespace stablefs
