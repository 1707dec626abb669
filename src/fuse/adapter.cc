// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/adapter.h"

#include <algorithm>

#include "fuse/attributes.h"
#include "fuse/payload_pool.h"

namespace stablefs {
namespace {

// Since Linux 6.16 (protocol 7.44) pages under writeback stay what they are until it is over:
// before that, invalidating them did not wait for writes that were under way.
constexpr unsigned kWaitsForWritebackMinor = 44;
// Of the workers; the others serve what these wait for.
constexpr int kTakersMax = 4;

constexpr uint32_t kMaxBackground = 64;
constexpr uint32_t kCongestionThreshold = 48;

constexpr const char* kOperationNames[kOpcodeLimit] = {
    nullptr,        "lookup",    "forget",      "getattr",  "setattr",  "readlink",
    "symlink",      nullptr,     "mknod",       "mkdir",    "unlink",   "rmdir",
    "rename",       "link",      "open",        "read",     "write",    "statfs",
    "release",      nullptr,     "fsync",       "setxattr", "getxattr", "listxattr",
    "removexattr",  "flush",     "init",        "opendir",  "readdir",  nullptr,
    "fsyncdir",     nullptr,     nullptr,       nullptr,    nullptr,    "create",
    nullptr,        nullptr,     "destroy",     "ioctl",    nullptr,    nullptr,
    "batch_forget", "fallocate", "readdirplus", "rename2",  "lseek",    "copy_file_range",
    nullptr,        nullptr,     "syncfs",      "tmpfile",  "statx",    "copy_file_range_64",
};

void init_operation(void* user_data, fuse_conn_info* connection) {
  static_cast<Adapter*>(user_data)->initialise(*connection);
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops operations{};
  operations.init = init_operation;
  install_namespace_operations(operations);
  install_attribute_operations(operations);
  install_file_operations(operations);
  install_directory_operations(operations);
  install_control_operations(operations);
  install_ioctl_operations(operations);
  return operations;
}

}  // namespace

const fuse_lowlevel_ops& Adapter::operations() {
  static const fuse_lowlevel_ops kOperations = make_operations();
  return kOperations;
}

void Adapter::initialise(fuse_conn_info& connection) {
  // AUTO_INVAL_DATA would drop a file's pages whenever its times change; splice would hand us live
  // pages of the writer. With ATOMIC_O_TRUNC the kernel sets the size to 0 a second time, without
  // its lock held in between and without telling us: another process's truncate that came between
  // would be undone in the kernel and stand here. A SETATTR after OPEN costs less than that.
  uint32_t unwanted = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ |
                      FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_HANDLE_KILLPRIV |
                      FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
  uint32_t wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS |
                    FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT |
                    FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_IOCTL_DIR;
  // A default access control list takes the place of the umask, which only we can decide.
  constexpr uint32_t kAccessLists = FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
  if ((connection.capable & kAccessLists) == kAccessLists) wanted |= kAccessLists;
  if (options_.cache == CacheMode::kernel) {
    wanted |= FUSE_CAP_WRITEBACK_CACHE;
  } else {
    unwanted |= FUSE_CAP_WRITEBACK_CACHE;
  }
  connection.want = (connection.want & ~unwanted) | (wanted & connection.capable);
  connection.max_write = kMaxWriteBytes;
  connection.max_background = kMaxBackground;
  connection.congestion_threshold = kCongestionThreshold;
  connection.time_gran = 1;
  kernel_waits_for_writeback_ = connection.proto_minor >= kWaitsForWritebackMinor;
}

bool Adapter::take_over_cached_writes(Ino ino) {
  if (!kernel_waits_for_writeback_ || !take_) return false;
  const bool allowed = taking_.fetch_add(1) < kTakersMax;
  const bool taken = allowed && take_(ino);
  taking_.fetch_sub(1);
  return taken;
}

Result<StatxOut> Adapter::statx(Ino ino) {
  return to_statx(FS_TRY(fs_.get_attributes(ino)));
}

void Adapter::destroy() {
  if (options_.destroy) options_.destroy();
}

void Adapter::count(uint32_t opcode) {
  const uint32_t slot = opcode < kOpcodeLimit && kOperationNames[opcode] != nullptr ? opcode : 0;
  requests_[slot].fetch_add(1, std::memory_order_relaxed);
}

Statistics Adapter::counters() {
  Statistics all = fs_.counters();
  uint64_t total = 0;
  for (uint32_t opcode = 0; opcode < kOpcodeLimit; ++opcode) {
    const uint64_t number = requests_[opcode].load(std::memory_order_relaxed);
    total += number;
    const char* name = opcode == 0 ? "unknown" : kOperationNames[opcode];
    if (name != nullptr) all.emplace_back(std::string("fuse.") + name, number);
  }
  all.emplace_back("fuse.requests", total);
  if (options_.add_counters) options_.add_counters(all);
  return all;
}

Status check_name_length(std::string_view name) {
  if (name.size() > kMaxNameBytes) return ErrorCode::name_too_long;
  return {};
}

Result<NewFile> new_file(fuse_req_t req, Ino parent, mode_t mode) {
  const fuse_ctx* caller = fuse_req_ctx(req);
  NewFile file;
  file.mode = mode;
  file.uid = caller->uid;
  file.gid = caller->gid;
  file.umask = caller->umask;
  const Attributes directory = FS_TRY(Adapter::of(req).fs().get_attributes(parent));
  if (directory.mode & S_ISGID) {
    file.gid = directory.gid;
    if (S_ISDIR(mode)) file.mode |= S_ISGID;
  }
  return file;
}

}  // namespace stablefs
