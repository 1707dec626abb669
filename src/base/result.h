// SPDX-License-Identifier: GPL-2.0-or-later
// Result<T>: a value or an Error. An Error names its failure site (include/stablefs/errors.def) and
// may carry a detail text; the errno behind the code is read in `fuse` and `tools` only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace stablefs {

enum class ErrorCode : uint16_t {
#define STABLEFS_ERROR(name, errno_value, text) name,
#include "stablefs/errors.def"
#undef STABLEFS_ERROR
};

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code) : code_(code) {}  // NOLINT: an error code is an Error without detail
  Error(ErrorCode code, std::string detail) : code_(code), detail_(std::move(detail)) {}

  ErrorCode code() const { return code_; }
  const std::string& detail() const { return detail_; }
  int errno_value() const;
  const char* name() const;     // "journal_write_failed"
  std::string message() const;  // text of the code, then ": detail" where there is one

 private:
  ErrorCode code_;
  std::string detail_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  Result(ErrorCode code) : state_(std::in_place_index<1>, Error(code)) {}    // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & {
    FS_ASSERT(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    FS_ASSERT(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    FS_ASSERT(ok());
    return std::get<0>(std::move(state_));
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  const Error& error() const {
    FS_ASSERT(!ok());
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT
  Result(ErrorCode code) : error_(Error(code)) {}    // NOLINT

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  void value() const { FS_ASSERT(ok()); }
  const Error& error() const {
    FS_ASSERT(!ok());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace stablefs

// Evaluates to the value of a Result, or returns its error from the enclosing function.
#define FS_TRY(expression)                                 \
  ({                                                       \
    auto result_of_try = (expression);                     \
    if (!result_of_try.ok()) return result_of_try.error(); \
    std::move(result_of_try).value();                      \
  })
