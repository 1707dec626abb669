// SPDX-License-Identifier: GPL-2.0-or-later
// Names: lookup, forget, making, linking, renaming, removing.
#include <linux/fs.h>
#include <sys/sysmacros.h>

#include "fuse/adapter.h"
#include "fuse/attributes.h"

namespace stablefs {
namespace {

void reply_entry(fuse_req_t req, const Result<Attributes>& attributes) {
  if (!attributes.ok()) {
    reply_error(req, attributes.error());
    return;
  }
  const fuse_entry_param entry = to_entry(*attributes);
  fuse_reply_entry(req, &entry);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (const Status status = check_name_length(name); !status.ok())
    return reply_error(req, status.error());
  const Result<Attributes> found = Adapter::of(req).fs().lookup(Ino(parent), name);
  if (!found.ok() && found.error().code() == ErrorCode::not_found) {
    const fuse_entry_param entry = absent_entry();
    fuse_reply_entry(req, &entry);
    return;
  }
  reply_entry(req, found);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups) {
  Adapter& adapter = Adapter::of(req);
  adapter.stale_times().remove(Ino(ino));
  adapter.fs().forget(Ino(ino), lookups);
  fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  Adapter& adapter = Adapter::of(req);
  FileSystem& fs = adapter.fs();
  for (size_t i = 0; i < count; ++i) {
    adapter.stale_times().remove(Ino(forgets[i].ino));
    fs.forget(Ino(forgets[i].ino), forgets[i].nlookup);
  }
  fuse_reply_none(req);
}

Result<Attributes> make_node(fuse_req_t req, Ino parent, std::string_view name, mode_t mode,
                             dev_t device) {
  FS_TRY(check_name_length(name));
  NewFile file = FS_TRY(new_file(req, parent, mode));
  if (S_ISCHR(mode) || S_ISBLK(mode)) {
    file.device_major = major(device);
    file.device_minor = minor(device);
  }
  return Adapter::of(req).fs().make_node(parent, name, file);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  reply_entry(req, make_node(req, Ino(parent), name, mode, device));
}

Result<Attributes> make_directory(fuse_req_t req, Ino parent, std::string_view name, mode_t mode) {
  FS_TRY(check_name_length(name));
  const NewFile file = FS_TRY(new_file(req, parent, (mode & 07777) | S_IFDIR));
  return Adapter::of(req).fs().make_directory(parent, name, file);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  reply_entry(req, make_directory(req, Ino(parent), name, mode));
}

Result<Attributes> make_symlink(fuse_req_t req, Ino parent, std::string_view name,
                                std::string_view target) {
  FS_TRY(check_name_length(name));
  if (target.size() > kMaxSymlinkBytes) return ErrorCode::name_too_long;
  const NewFile file = FS_TRY(new_file(req, parent, S_IFLNK | 0777));
  return Adapter::of(req).fs().make_symlink(parent, name, target, file);
}

void op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  reply_entry(req, make_symlink(req, Ino(parent), name, target));
}

void op_readlink(fuse_req_t req, fuse_ino_t ino) {
  const Result<std::string> target = Adapter::of(req).fs().read_symlink(Ino(ino));
  if (!target.ok()) return reply_error(req, target.error());
  fuse_reply_readlink(req, target->c_str());
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  if (const Status status = check_name_length(new_name); !status.ok()) {
    return reply_error(req, status.error());
  }
  reply_entry(req, Adapter::of(req).fs().link(Ino(ino), Ino(new_parent), new_name));
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (const Status status = check_name_length(name); !status.ok())
    return reply_error(req, status.error());
  reply_status(req, Adapter::of(req).fs().unlink(Ino(parent), name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (const Status status = check_name_length(name); !status.ok())
    return reply_error(req, status.error());
  reply_status(req, Adapter::of(req).fs().remove_directory(Ino(parent), name));
}

Result<RenameMode> rename_mode(unsigned flags) {
  switch (flags & ~RENAME_WHITEOUT) {
    case 0:
      return RenameMode::replace;
    case RENAME_NOREPLACE:
      return RenameMode::no_replace;
    case RENAME_EXCHANGE:
      return RenameMode::exchange;
    default:
      return Error(ErrorCode::invalid_argument, "rename flags");
  }
}

Status rename_entry(fuse_req_t req, Ino parent, std::string_view name, Ino new_parent,
                    std::string_view new_name, unsigned flags) {
  FS_TRY(check_name_length(name));
  FS_TRY(check_name_length(new_name));
  const RenameMode mode = FS_TRY(rename_mode(flags));
  NewFile whiteout;
  whiteout.uid = fuse_req_ctx(req)->uid;
  whiteout.gid = fuse_req_ctx(req)->gid;
  const bool wanted = (flags & RENAME_WHITEOUT) != 0;
  return Adapter::of(req).fs().rename(parent, name, new_parent, new_name, mode,
                                      wanted ? &whiteout : nullptr);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  reply_status(req, rename_entry(req, Ino(parent), name, Ino(new_parent), new_name, flags));
}

}  // namespace

void install_namespace_operations(fuse_lowlevel_ops& operations) {
  operations.lookup = op_lookup;
  operations.forget = op_forget;
  operations.forget_multi = op_forget_multi;
  operations.mknod = op_mknod;
  operations.mkdir = op_mkdir;
  operations.symlink = op_symlink;
  operations.readlink = op_readlink;
  operations.link = op_link;
  operations.unlink = op_unlink;
  operations.rmdir = op_rmdir;
  operations.rename = op_rename;
}

}  // namespace stablefs
