// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/result.h"

#include <cerrno>

namespace stablefs {
namespace {

struct ErrorInfo {
  const char* name;
  int errno_value;
  const char* text;
};

constexpr ErrorInfo kErrors[] = {
#define STABLEFS_ERROR(name, errno_value, text) {#name, errno_value, text},
#include "stablefs/errors.def"
#undef STABLEFS_ERROR
};

const ErrorInfo& info(ErrorCode code) {
  return kErrors[static_cast<size_t>(code)];
}

}  // namespace

int Error::errno_value() const {
  return info(code_).errno_value;
}
const char* Error::name() const {
  return info(code_).name;
}

std::string Error::message() const {
  std::string text = info(code_).text;
  if (!detail_.empty()) text += ": " + detail_;
  return text;
}

}  // namespace stablefs
