// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/control_client.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/xattr.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "stablefs/control.h"

namespace stablefs {

Result<std::string> read_control(const std::string& directory, const char* name) {
  constexpr size_t kLargestAttribute = 65536;
  std::string value(kLargestAttribute, '\0');
  const ssize_t length = ::getxattr(directory.c_str(), name, value.data(), value.size());
  if (length >= 0) {
    value.resize(static_cast<size_t>(length));
    return value;
  }
  if (errno == ENOTSUP || errno == ENODATA) {
    return Error(ErrorCode::invalid_argument, directory + " is not the root of a mounted stablefs");
  }
  return Error(ErrorCode::invalid_argument, fmt::format("{}: {}", directory, std::strerror(errno)));
}

Status write_control(const std::string& directory, const char* name, const std::string& value) {
  if (::setxattr(directory.c_str(), name, value.data(), value.size(), 0) == 0) return {};
  const std::string what = fmt::format("{}: {}", directory, value);
  switch (errno) {
    case ENOTSUP:
      return Error(ErrorCode::invalid_argument, what + ": not the root of a mounted stablefs");
    case EINVAL:
      return Error(ErrorCode::invalid_argument, what + ": no such setting or value");
    case EPERM:
      return Error(ErrorCode::invalid_argument,
                   what + ": for root and whoever mounted it, and some only with -o unsafe");
    default:
      return Error(ErrorCode::invalid_argument, fmt::format("{}: {}", what, std::strerror(errno)));
  }
}

Result<DaemonInfo> read_info(const std::string& directory) {
  DaemonInfo info;
  info.json = FS_TRY(read_control(directory, kControlInfo));
  const auto parsed = nlohmann::json::parse(info.json, nullptr, false);
  if (!parsed.is_object()) return Error(ErrorCode::invalid_argument, directory + ": odd answer");
  info.pid = parsed.value("pid", 0);
  info.size_bytes = parsed.value("size_bytes", uint64_t{0});
  info.read_only = parsed.value("read_only", false);
  return info;
}

}  // namespace stablefs
