// SPDX-License-Identifier: GPL-2.0-or-later
// Talking to the running daemon: extended attributes, those of virtual_attributes.h and the control
// attributes of the root directory (see stablefs/control.h), and the shutdown ioctl.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "fuse/adapter.h"
#include "fuse/virtual_attributes.h"
#include "stablefs/control.h"

namespace stablefs {
namespace {

// As other filesystems have it: stop at once and write nothing more.
const unsigned kIoctlShutdown = _IOR('X', 125, uint32_t);

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
    reply_result(req, get_virtual_attribute(req, Ino(ino), wanted), size);
  }
}

// Root, and whoever runs the daemon.
bool is_manager(fuse_req_t req) {
  const uid_t caller = fuse_req_ctx(req)->uid;
  return caller == 0 || caller == ::geteuid();
}

int set_mark(const AdapterOptions& options, std::string_view text) {
  if (!options.mark) return ENOTSUP;
  if (text.size() > kMarkBytesMax) return E2BIG;
  options.mark(text);
  return 0;
}

int abort_filesystem(fuse_req_t req) {
  if (!is_manager(req)) return EPERM;
  Adapter::of(req).fs().abort();
  return 0;
}

int tune(fuse_req_t req, std::string_view setting) {
  if (!is_manager(req)) return EPERM;
  constexpr std::string_view kStable = "stable=";
  if (!setting.starts_with(kStable)) return EINVAL;
  const auto policy = parse_stable_policy(setting.substr(kStable.size()));
  if (!policy) return EINVAL;
  Adapter& adapter = Adapter::of(req);
  if (*policy == StablePolicy::off && !adapter.options().unsafe) return EPERM;
  adapter.fs().set_stable_policy(*policy);
  return 0;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  reply_result(req, list_virtual_attributes(req, Ino(ino)), size);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  reply_status(req, remove_virtual_attribute(req, Ino(ino), name));
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
    reply_status(req, set_virtual_attribute(req, Ino(ino), name, {value, size}, flags));
  }
}

// FITRIM, as fstrim(8) and `stablefs trim` ask for it.
void trim(fuse_req_t req, const void* in, size_t in_size) {
  fstrim_range range{};
  if (in_size < sizeof range) return reply_error(req, ErrorCode::invalid_argument);
  std::memcpy(&range, in, sizeof range);
  const Result<uint64_t> trimmed = Adapter::of(req).fs().trim(range.start, range.len, range.minlen);
  if (!trimmed.ok()) return reply_error(req, trimmed.error());
  range.len = *trimmed;
  fuse_reply_ioctl(req, 0, &range, sizeof range);
}

void op_ioctl(fuse_req_t req, fuse_ino_t, unsigned command, void*, fuse_file_info*, unsigned,
              const void* in, size_t in_size, size_t) {
  if (command != kIoctlShutdown && command != FITRIM) {
    fuse_reply_err(req, ENOTTY);
    return;
  }
  const bool allowed = command == FITRIM ? is_manager(req) : fuse_req_ctx(req)->uid == 0;
  if (!allowed) {
    fuse_reply_err(req, EPERM);
    return;
  }
  if (command == FITRIM) return trim(req, in, in_size);
  Adapter::of(req).fs().stop();
  fuse_reply_ioctl(req, 0, nullptr, 0);
}

}  // namespace

void install_control_operations(fuse_lowlevel_ops& operations) {
  operations.getxattr = op_getxattr;
  operations.setxattr = op_setxattr;
  operations.listxattr = op_listxattr;
  operations.removexattr = op_removexattr;
  operations.ioctl = op_ioctl;
}

}  // namespace stablefs
