// SPDX-License-Identifier: GPL-2.0-or-later
// From low-level FUSE operations to FileSystem and back. The only place of the daemon where errors
// become errno. No state of its own but counters: what is open or looked up is the FileSystem's.
//
// Permissions are checked by the kernel (default_permissions). Nothing but us changes the
// filesystem, so entries and attributes may be kept by the kernel as long as it likes.
#pragma once

#include <fuse_lowlevel.h>

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "fs/file_system.h"
#include "fuse/caller.h"
#include "fuse/full_files.h"
#include "fuse/io_modes.h"
#include "fuse/protocol.h"
#include "fuse/request.h"
#include "fuse/stale_times.h"

namespace stablefs {

struct AdapterOptions {
  CacheMode cache = CacheMode::kernel;
  // JSON for the control attribute "info".
  std::function<std::string()> info;
  std::string label;
  // The control attribute "mark": a note for the recording. Nothing: there is none.
  std::function<void(std::string_view)> mark;
  // Figures of what lies around the filesystem, for "stats".
  std::function<void(Statistics&)> add_counters;
  bool unsafe = false;  // what breaks promises may be tuned
  // DESTROY: makes everything durable and lets go of the device. Nothing is called after it.
  std::function<void()> destroy;
};

class Adapter {
 public:
  Adapter(FileSystem& fs, AdapterOptions options) : fs_(fs), options_(std::move(options)) {}
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  static const fuse_lowlevel_ops& operations();
  static Adapter& of(fuse_req_t req) { return *static_cast<Adapter*>(fuse_req_userdata(req)); }

  // INIT: what we want of what the kernel offers.
  void initialise(fuse_conn_info& connection);
  // Requests libfuse does not know.
  Status sync_all() { return fs_.sync_all(); }
  Result<StatxOut> statx(Ino ino);
  Result<uint64_t> copy_file_range(const CopyPlace& source, const CopyPlace& target,
                                   uint64_t length_bytes, uint64_t flags, const Caller& caller);
  void destroy();

  void count(uint32_t opcode);
  Statistics counters();  // the FileSystem's and the requests by operation

  // Makes the kernel ask for the inode's attributes again: for changes it does not expect.
  void set_attribute_invalidator(std::function<void(Ino)> invalidate) {
    invalidate_ = std::move(invalidate);
  }
  void invalidate_attributes(Ino ino) {
    if (invalidate_) invalidate_(ino);
  }

  // Makes the kernel send what it holds of writes to the inode, and waits for that; other workers
  // serve it.
  void set_cache_taker(std::function<bool(Ino)> take) { take_ = std::move(take); }
  // False when the kernel is too old to be trusted here, or enough workers wait for it already.
  bool take_over_cached_writes(Ino ino);

  // Makes the kernel forget an inode that nobody uses.
  void set_inode_pruner(std::function<void(Ino)> prune) { prune_ = std::move(prune); }

  FileSystem& fs() { return fs_; }
  FullFiles& full_files() { return full_files_; }
  IoModes& io_modes() { return io_modes_; }
  StaleTimes& stale_times() { return stale_times_; }
  const AdapterOptions& options() const { return options_; }

 private:
  FileSystem& fs_;
  const AdapterOptions options_;
  std::function<void(Ino)> invalidate_;
  FullFiles full_files_;
  IoModes io_modes_;
  std::function<void(Ino)> prune_;
  std::function<bool(Ino)> take_;
  bool kernel_waits_for_writeback_ = false;
  std::atomic<int> taking_{0};
  StaleTimes stale_times_{[this](Ino ino) {
    if (prune_) prune_(ino);
  }};
  std::array<std::atomic<uint64_t>, kOpcodeLimit> requests_{};
};

// --- between the files of this layer

// Each fills in the operations of one topic.
void install_namespace_operations(fuse_lowlevel_ops& operations);
void install_attribute_operations(fuse_lowlevel_ops& operations);
void install_file_operations(fuse_lowlevel_ops& operations);
void install_directory_operations(fuse_lowlevel_ops& operations);
void install_control_operations(fuse_lowlevel_ops& operations);
void install_ioctl_operations(fuse_lowlevel_ops& operations);

inline void reply_error(fuse_req_t req, const Error& error) {
  fuse_reply_err(req, error.errno_value());
}
inline void reply_status(fuse_req_t req, const Status& status) {
  fuse_reply_err(req, status.ok() ? 0 : status.error().errno_value());
}

// Who sent the request that this thread serves.
inline Caller current_caller() {
  return Caller(*current_request()->header);
}

// What a thing made in `parent` by the request's caller gets: in a setgid directory the group is
// the directory's, and directories inherit the bit.
Result<NewFile> new_file(fuse_req_t req, Ino parent, mode_t mode);

// The kernel sends names longer than any filesystem may hold.
Status check_name_length(std::string_view name);

// After a change of contents of which the kernel says nothing about the caller's capabilities.
Status clear_set_ids(Adapter& adapter, Ino ino, const Caller& caller);

OpenFlags open_flags(const Adapter& adapter, int flags);
// What the reply to OPEN and CREATE says about caching. Until it is taken back, or until RELEASE,
// the file counts as open.
void set_open_reply(Adapter& adapter, Ino ino, fuse_file_info& file);
void take_back_open_reply(Adapter& adapter, Ino ino);

}  // namespace stablefs
