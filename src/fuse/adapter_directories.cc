// SPDX-License-Identifier: GPL-2.0-or-later
// Reading directories. OPENDIR is answered ENOSYS once, which lets the kernel keep directory
// contents and spares two requests for every later listing.
#include "fuse/adapter.h"
#include "fuse/attributes.h"

namespace stablefs {
namespace {

void op_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(req, ENOSYS);
}

// Fills the thread's reply memory with entries until `size` is used up.
void read_directory(fuse_req_t req, Ino ino, size_t size, off_t after, bool plus) {
  const std::span<std::byte> memory = current_request()->reply_memory;
  const size_t limit = std::min(size, memory.size());
  size_t used = 0;
  const auto emit = [&](const DirectoryEntry& entry, const Attributes* attributes) {
    char* const place = reinterpret_cast<char*>(memory.data()) + used;
    const auto next = static_cast<off_t>(entry.cookie);
    size_t needed;
    if (plus) {
      // "." and ".." come without attributes: no lookup is counted, the kernel uses number and
      // type.
      fuse_entry_param parameters = attributes ? to_entry(*attributes) : fuse_entry_param{};
      parameters.attr.st_ino = entry.ino.value;
      if (!attributes) parameters.attr.st_mode = static_cast<mode_t>(entry.type) << 12;
      needed =
          fuse_add_direntry_plus(req, place, limit - used, entry.name.c_str(), &parameters, next);
    } else {
      struct stat parameters {};
      parameters.st_ino = entry.ino.value;
      parameters.st_mode = static_cast<mode_t>(entry.type) << 12;
      needed = fuse_add_direntry(req, place, limit - used, entry.name.c_str(), &parameters, next);
    }
    if (needed > limit - used) return false;
    used += needed;
    return true;
  };
  const Status status =
      Adapter::of(req).fs().read_directory(ino, static_cast<uint64_t>(after), plus, emit);
  // Entries already counted as looked up must reach the kernel, or it would never forget them.
  if (!status.ok() && used == 0) return reply_error(req, status.error());
  fuse_reply_buf(req, reinterpret_cast<const char*>(memory.data()), used);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after, fuse_file_info*) {
  read_directory(req, Ino(ino), size, after, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after, fuse_file_info*) {
  read_directory(req, Ino(ino), size, after, true);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info*) {
  reply_status(req, Adapter::of(req).fs().fsync(Ino(ino), 0, data_only != 0));
}

}  // namespace

void install_directory_operations(fuse_lowlevel_ops& operations) {
  operations.opendir = op_opendir;
  operations.readdir = op_readdir;
  operations.readdirplus = op_readdirplus;
  operations.fsyncdir = op_fsyncdir;
}

}  // namespace stablefs
