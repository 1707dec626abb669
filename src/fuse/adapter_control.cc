// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes: stored ones, those of virtual_attributes.h, and the control attributes of
// the root directory, by which one talks to the running daemon (see stablefs/control.h).
#include <sys/xattr.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "format/xattr.h"
#include "fuse/adapter.h"
#include "fuse/virtual_attributes.h"
#include "stablefs/control.h"

namespace stablefs {
namespace {

std::string statistics_json(Adapter& adapter) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [name, value] : adapter.counters()) out[name] = value;
  return out.dump();
}

// As many as fit into an attribute.
constexpr size_t kInFlightMax = 400;

std::string in_flight_json(Adapter& adapter) {
  nlohmann::json out = nlohmann::json::array();
  for (const InFlight& write : adapter.fs().in_flight(kInFlightMax)) {
    out.push_back({{"inode", write.ino.value},
                   {"file_block", write.first_block},
                   {"blocks", write.length_blocks},
                   {"state", write.held ? "held" : write.state},
                   {"direct", write.direct},
                   {"age_ms", write.age_ns / kNsPerMs}});
  }
  return out.dump();
}

void reply_value(fuse_req_t req, std::string_view value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, value.size());
  } else if (value.size() > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value.data(), value.size());
  }
}

void reply_result(fuse_req_t req, const Result<std::string>& value, size_t size) {
  if (!value.ok()) return reply_error(req, value.error());
  reply_value(req, std::string_view(*value), size);
}

Result<std::string> get_attribute(fuse_req_t req, Ino ino, std::string_view name) {
  if (is_virtual_attribute(ino, name)) return get_virtual_attribute(req, ino, name);
  const auto value = FS_TRY(Adapter::of(req).fs().get_xattr(ino, name));
  return std::string(reinterpret_cast<const char*>(value.data()), value.size());
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  Adapter& adapter = Adapter::of(req);
  const std::string_view wanted(name);
  if (Ino(ino) == kRootIno && wanted == kControlStats) {
    reply_value(req, statistics_json(adapter), size);
  } else if (Ino(ino) == kRootIno && wanted == kControlInFlight) {
    reply_value(req, in_flight_json(adapter), size);
  } else if (Ino(ino) == kRootIno && wanted == kControlInfo && adapter.options().info) {
    reply_value(req, adapter.options().info(), size);
  } else {
    reply_result(req, get_attribute(req, Ino(ino), wanted), size);
  }
}

int set_mark(const AdapterOptions& options, std::string_view text) {
  if (!options.mark) return ENOTSUP;
  if (text.size() > kMarkBytesMax) return E2BIG;
  options.mark(text);
  return 0;
}

int abort_filesystem(fuse_req_t req) {
  if (!current_caller().may_manage()) return EPERM;
  Adapter::of(req).fs().abort();
  return 0;
}

// POLICY or POLICY/nodir.
int tune_atime(Adapter& adapter, std::string_view value) {
  constexpr std::string_view kNotDirectories = "/nodir";
  const bool directories = !value.ends_with(kNotDirectories);
  if (!directories) value.remove_suffix(kNotDirectories.size());
  const auto policy = parse_atime_policy(value);
  if (!policy) return EINVAL;
  adapter.fs().set_atime_policy(*policy, directories);
  return 0;
}

int tune(fuse_req_t req, std::string_view setting) {
  if (!current_caller().may_manage()) return EPERM;
  constexpr std::string_view kAtime = "atime=";
  if (setting.starts_with(kAtime)) {
    return tune_atime(Adapter::of(req), setting.substr(kAtime.size()));
  }
  constexpr std::string_view kStable = "stable=";
  if (!setting.starts_with(kStable)) return EINVAL;
  const auto policy = parse_stable_policy(setting.substr(kStable.size()));
  if (!policy) return EINVAL;
  Adapter& adapter = Adapter::of(req);
  if (*policy == StablePolicy::off && !adapter.options().unsafe) return EPERM;
  adapter.fs().set_stable_policy(*policy);
  return 0;
}

// The kernel keeps everybody else from reading trusted attributes, but not from seeing their names.
Result<std::string> list_attributes(fuse_req_t req, Ino ino) {
  std::string all = FS_TRY(list_virtual_attributes(req, ino));
  std::optional<bool> sees_trusted;  // asked once, and only when there is something to see
  for (const std::string& name : FS_TRY(Adapter::of(req).fs().list_xattrs(ino))) {
    if (namespace_of_xattr(name) == XattrNamespace::trusted) {
      if (!sees_trusted) sees_trusted = current_caller().may_manage();
      if (!*sees_trusted) continue;
    }
    all += name;
    all += '\0';
  }
  return all;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  reply_result(req, list_attributes(req, Ino(ino)), size);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  const bool made = is_virtual_attribute(Ino(ino), name);
  reply_status(req, made ? remove_virtual_attribute(req, Ino(ino), name)
                         : Adapter::of(req).fs().remove_xattr(Ino(ino), name));
}

Status set_attribute(fuse_req_t req, Ino ino, std::string_view name, std::string_view value,
                     int flags) {
  if (is_virtual_attribute(ino, name)) {
    return set_virtual_attribute(req, ino, name, value, flags);
  }
  XattrChange change;
  if ((flags & XATTR_CREATE) != 0) change.mode = XattrMode::create;
  if ((flags & XATTR_REPLACE) != 0) change.mode = XattrMode::replace;
  change.clear_sgid = (current_request()->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  return Adapter::of(req).fs().set_xattr(ino, name, std::as_bytes(std::span(value)), change);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                 int flags) {
  const std::string_view wanted(name), text(value, size);
  if (Ino(ino) == kRootIno && wanted == kControlMark) {
    fuse_reply_err(req, set_mark(Adapter::of(req).options(), text));
  } else if (Ino(ino) == kRootIno && wanted == kControlAbort) {
    fuse_reply_err(req, abort_filesystem(req));
  } else if (Ino(ino) == kRootIno && wanted == kControlTune) {
    fuse_reply_err(req, tune(req, text));
  } else {
    reply_status(req, set_attribute(req, Ino(ino), wanted, text, flags));
  }
}

}  // namespace

void install_control_operations(fuse_lowlevel_ops& operations) {
  operations.getxattr = op_getxattr;
  operations.setxattr = op_setxattr;
  operations.listxattr = op_listxattr;
  operations.removexattr = op_removexattr;
}

}  // namespace stablefs
