// SPDX-License-Identifier: GPL-2.0-or-later
// FileSystem: POSIX semantics on inode numbers and spans. No libfuse, no errno, no wall-clock time
// of its own. Every call is thread-safe and complete when it returns.
//
// Permission checks are the caller's (kernel: default_permissions); immutability, name rules,
// sticky results of errors and limits are checked here.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "data/buffer.h"
#include "data/extent_map.h"
#include "data/file_data.h"
#include "data/stable_policy.h"
#include "device/block_device.h"
#include "store/damage.h"
#include "store/store.h"

namespace stablefs {

enum class CacheMode : uint8_t { kernel, through, daemon };
enum class AtimePolicy : uint8_t { relatime, noatime, strictatime };
std::optional<AtimePolicy> parse_atime_policy(std::string_view word);
const char* to_string(AtimePolicy policy);

struct FileSystemOptions {
  Clock* clock = nullptr;    // required
  Logger* logger = nullptr;  // required
  bool read_only = false;
  CacheMode cache = CacheMode::kernel;
  AtimePolicy atime = AtimePolicy::relatime;
  bool directory_atime = true;  // false: not those of directories
  ErrorPolicy errors = ErrorPolicy::remount_read_only;
  std::function<void()> on_abort;  // with ErrorPolicy::abort: the filesystem has ended itself
  uint64_t writeback_delay_ns = 500 * kNsPerMs;  // 0: submit a page as soon as it is dirty
  // What reached us is durable this long after, without being asked for: data too, for which the
  // writeback delay is cut to half of it if need be.
  uint64_t commit_interval_ns = 5 * kNsPerSecond;
  uint64_t dirty_limit_bytes = 256ull << 20;      // writers wait for writeback beyond this
  uint64_t clean_limit_bytes = 512ull << 20;      // clean pages kept with CacheMode::daemon
  StablePolicy stable = StablePolicy::automatic;  // rewriting a page that is being written
  bool guard = true;                              // false: no guard tags, for measuring only
  uint64_t discard_delay_ns = 2 * kNsPerSecond;
  bool discard = false;                              // tell the device what has become free
  std::function<void(uint8_t epoch[16])> new_epoch;  // tests: a fixed journal epoch
};

struct Attributes {
  Ino ino;
  uint32_t generation = 0;
  uint32_t mode = 0;  // S_IFMT and permissions
  uint32_t link_count = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t device_major = 0, device_minor = 0;
  uint64_t size_bytes = 0;
  uint64_t block_count = 0;  // 4 KiB blocks mapped or promised to dirty pages
  uint32_t flags = 0;        // InodeFlag
  Timestamp access_time, modify_time, change_time, birth_time;
};

// What a new file gets. `mode` has the type for make_node (S_IFREG, S_IFIFO, ...).
struct NewFile {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t device_major = 0, device_minor = 0;
  uint32_t umask = 0;  // for a directory without default access control list
};

// What a change costs the set-ID bits of a file, which the kernel leaves to the filesystem
// (FUSE_HANDLE_KILLPRIV_V2). The set-group-ID bit without group execution is no privilege (it once
// meant mandatory locking): only who may not set it loses it.
enum class SetIds : uint8_t {
  keep,
  clear,      // set-user-ID, and set-group-ID with group execution
  clear_all,  // set-group-ID without group execution, too
};

struct AttributeChange {
  std::optional<uint32_t> mode;  // permission bits only
  std::optional<uint32_t> uid, gid;
  std::optional<uint64_t> size_bytes;
  std::optional<Timestamp> access_time, modify_time, change_time;
  bool access_time_now = false, modify_time_now = false;
  SetIds set_ids = SetIds::keep;
  bool needs_writer = false;     // not_permitted when the file is not open for writing
  bool of_kernel_cache = false;  // times of writes that were let in: no flag refuses them now
};

struct DirectoryEntry {
  uint64_t cookie;  // pass as `after` to go on behind this entry
  Ino ino;
  uint8_t type;  // DT_*
  std::string name;
};

struct FsStatistics {
  uint64_t total_blocks, free_blocks, available_blocks;  // 4 KiB each
  uint64_t files, free_files;
  uint32_t name_bytes_max;
  uint64_t filesystem_id;
};

// An open file: given by open/create, ends with release. Carries the error cursor.
using HandleId = uint64_t;

struct OpenFlags {
  bool read = false, write = false, truncate = false, direct = false, append = false;
  bool sync = false, data_sync = false;  // O_SYNC, O_DSYNC
  SetIds set_ids = SetIds::keep;         // with truncate
  bool keep_access_time = false;         // O_NOATIME
};

// What must be durable when a write is answered, besides what its open file is for (O_SYNC,
// O_DSYNC): RWF_DSYNC and RWF_SYNC are about one write.
enum class WriteSync : uint8_t { none, data, all };

// One end of a copy between files.
struct CopyPlace {
  Ino ino;
  HandleId handle = 0;
  uint64_t offset_bytes = 0;
};

enum class RenameMode : uint8_t { replace, no_replace, exchange };

// Where a write comes from. What the kernel writes back had been let in before: it is refused for
// no flag of the inode. In CacheMode::kernel the kernel owns mtime and ctime and sends them itself,
// perhaps before the write.
enum class WriteOrigin : uint8_t { caller, mapping, kernel_cache };

struct WriteOptions {
  SetIds set_ids = SetIds::keep;
  WriteOrigin origin = WriteOrigin::caller;  // direct writes know no other
  WriteSync sync = WriteSync::none;
};

enum class XattrMode : uint8_t { create_or_replace, create, replace };
struct XattrChange {
  XattrMode mode = XattrMode::create_or_replace;
  bool clear_sgid = false;  // an access list, from somebody who may not give the group's privileges
};

// Flat list of "dotted.lower.case.names" and values, as `stablefs stats` prints it.
using Statistics = std::vector<std::pair<std::string, uint64_t>>;

class FileSystem {
 public:
  // Mounts: replays, finishes what a crash left over (orphans), starts the background threads.
  static Result<std::unique_ptr<FileSystem>> open(BlockDevice& device,
                                                  const FileSystemOptions& options);
  virtual ~FileSystem() = default;

  // Writes back everything, checkpoints cleanly, stops. Nothing but the destructor may follow.
  // After stop() it does nothing and says shut_down; after an error it does what still can be done
  // and returns the error.
  virtual Status close() = 0;
  // Stops at once, writes nothing more; every later call fails with shut_down.
  virtual void stop() = 0;
  // The same with a device that does not answer: what waits for it fails now.
  virtual void abort() = 0;

  // --- namespace. Calls returning Attributes of a looked-up inode count one lookup on it.
  virtual Result<Attributes> lookup(Ino parent, std::string_view name) = 0;  // "." and ".." too
  virtual void forget(Ino ino, uint64_t lookups) = 0;
  virtual Result<Attributes> make_node(Ino parent, std::string_view name, const NewFile& file) = 0;
  virtual Result<Attributes> make_directory(Ino parent, std::string_view name,
                                            const NewFile& file) = 0;
  virtual Result<Attributes> make_symlink(Ino parent, std::string_view name,
                                          std::string_view target, const NewFile& file) = 0;
  virtual Result<std::pair<Attributes, HandleId>> create(Ino parent, std::string_view name,
                                                         const NewFile& file,
                                                         const OpenFlags& flags) = 0;
  // A regular file without a name (O_TMPFILE), which `link` may give one; it goes with the last
  // use.
  virtual Result<std::pair<Attributes, HandleId>> create_unnamed(Ino directory, const NewFile& file,
                                                                 const OpenFlags& flags) = 0;
  virtual Result<Attributes> link(Ino ino, Ino new_parent, std::string_view new_name) = 0;
  virtual Status unlink(Ino parent, std::string_view name) = 0;
  virtual Status remove_directory(Ino parent, std::string_view name) = 0;
  // `whiteout`: owner of the character device 0:0 that takes the old name in the same transaction;
  // not together with an exchange.
  virtual Status rename(Ino parent, std::string_view name, Ino new_parent,
                        std::string_view new_name, RenameMode mode,
                        const NewFile* whiteout = nullptr) = 0;
  virtual Result<std::string> read_symlink(Ino ino) = 0;

  // --- attributes
  virtual Result<Attributes> get_attributes(Ino ino) = 0;
  virtual Result<Attributes> set_attributes(Ino ino, const AttributeChange& change) = 0;

  // FS_IOC_SETFLAGS: not_supported when some are none of kKnownInodeFlags.
  virtual Status set_flags(Ino ino, uint32_t flags) = 0;

  // --- extended attributes, by full name ("user.x"). not_supported: no such namespace. Those of
  // access control lists change the mode, and the mode changes them.
  virtual Result<std::vector<std::byte>> get_xattr(Ino ino, std::string_view name) = 0;
  virtual Status set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value,
                           const XattrChange& change) = 0;
  virtual Status remove_xattr(Ino ino, std::string_view name) = 0;
  virtual Result<std::vector<std::string>> list_xattrs(Ino ino) = 0;

  // --- directories: entries behind cookie `after` (0: from the start, "." and ".." included) until
  // `emit` returns false. With `count_lookup` each emitted entry except "." and ".." counts a
  // lookup and comes with attributes (null, and not counted, when its inode cannot be read); when
  // `emit` returns false the entry is not counted. `emit` must not call back.
  virtual Status read_directory(
      Ino ino, uint64_t after, bool count_lookup,
      const std::function<bool(const DirectoryEntry&, const Attributes*)>& emit) = 0;

  // --- files
  virtual Result<HandleId> open_file(Ino ino, const OpenFlags& flags) = 0;
  virtual void release(HandleId handle) = 0;
  // The file is being closed, and may have been read from a cache that is not ours: moves the
  // access time of one that was opened for reading only. True: it has moved.
  virtual bool note_cached_reads(HandleId handle) = 0;
  // Fills `out` from the start; returns bytes read (short at EOF, rest of `out` untouched).
  virtual Result<uint64_t> read(Ino ino, HandleId handle, uint64_t offset_bytes,
                                std::span<std::byte> out) = 0;
  // Data in `payload` (a sealed or private buffer): whole pages of a page-aligned payload of
  // 128 KiB and more are adopted without a copy, so the caller must not touch the buffer again.
  virtual Result<uint64_t> write(Ino ino, HandleId handle, uint64_t offset_bytes,
                                 const BufferSlice& payload, const WriteOptions& options = {}) = 0;
  // O_DIRECT: from the payload to the device, past the cache. `done` is called exactly once, from
  // any thread and perhaps before this returns, when it is mapped (or durable, see WriteSync): with
  // the bytes that are, of which there may be fewer, or the error. The open file stays open until
  // then.
  virtual void write_direct(Ino ino, HandleId handle, uint64_t offset_bytes,
                            const BufferSlice& payload, const WriteOptions& options,
                            DirectDone done) = 0;
  // Whether the kernel may take a write(2) through this open file into its cache: not when the file
  // has become immutable since.
  virtual Status may_cache_write(Ino ino, HandleId handle) = 0;
  // These bytes are zero from now on and take no space as far as they are whole blocks; blocks and
  // the end of the file may lie anywhere in the range. Short of space it may be done in part.
  virtual Status punch(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // These bytes are zero from now on and have their space (see allocate). The file reaches to the
  // end of the range unless `keep_size`.
  virtual Status zero(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes,
                      bool keep_size) = 0;
  // Space for every block of the range, or no_space: contents stay, and writing there cannot fail
  // for want of space. The file reaches to the end of the range unless `keep_size`.
  virtual Status allocate(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes,
                          bool keep_size) = 0;
  // copy_file_range(2): returns how many bytes of `source` are in `target` now, as
  // FileData::copy_range. No flags are known.
  virtual Result<uint64_t> copy_range(const CopyPlace& source, const CopyPlace& target,
                                      uint64_t length_bytes, uint64_t flags) = 0;
  // close(2): tells once of losses since the open, or since they were last told to this handle.
  virtual Status flush(Ino ino, HandleId handle) = 0;
  // As flush, and never success while data of the file is lost. Also directories (handle 0).
  virtual Status fsync(Ino ino, HandleId handle, bool data_only) = 0;
  // SEEK_DATA / SEEK_HOLE. While the kernel may hold writes of the file, `settle` is asked to get
  // them to us; without it, or when it says no, every place is data.
  virtual Result<uint64_t> seek(Ino ino, HandleId handle, uint64_t offset_bytes, bool hole,
                                const std::function<bool()>& settle = {}) = 0;

  // --- integrity
  virtual Result<uint16_t> app_tag(Ino ino) = 0;  // of a regular file; 0: none
  virtual Status set_app_tag(Ino ino, uint16_t app_tag) = 0;
  // What is committed of these blocks of the file, with tuples.
  virtual Result<std::vector<Run>> mapped_runs(Ino ino, uint64_t first_block,
                                               uint64_t end_block) = 0;
  // The damage list in order of addresses, with paths: looks through all names.
  virtual Result<std::vector<DamageEntry>> damage(Lba from, size_t limit) = 0;
  virtual Status clear_damage() = 0;

  virtual Status sync_all() = 0;  // syncfs: as fsync, for all files
  // Tells the device which blocks of a part of it are free, as far as runs of them are that long.
  // Returns how many bytes; not_supported when the device does not want to know.
  virtual Result<uint64_t> trim(uint64_t offset_bytes, uint64_t length_bytes,
                                uint64_t least_bytes) = 0;
  // From the next write on.
  virtual void set_stable_policy(StablePolicy policy) = 0;
  virtual void set_atime_policy(AtimePolicy policy, bool directory_atime) = 0;
  virtual const Health* health() const { return nullptr; }
  virtual FsStatistics statistics() = 0;
  virtual Statistics counters() = 0;
  // Writes of data under way, the oldest first.
  virtual std::vector<InFlight> in_flight(size_t limit) = 0;
  virtual Store& store() = 0;
};

}  // namespace stablefs
