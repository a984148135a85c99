// SPDX-License-Identifier: Apache-2.0
//
// How every fallible function of Perseus answers: a value, or an Error with a code of one closed table.
//
//   Result<Profile> profile = parse(bytes);
//   if (!profile) return std::unexpected(profile.error());
//   PERSEUS_ASSIGN_OR_RETURN(auto problem, build(*profile));   // the same in one line
//
// Libraries never print, exit or abort, and let no exception leave them.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace perseus::core {

/// Why something was refused. Closed: each code has one row in error_table().
enum class ErrorCode : std::uint8_t {
  kUsage,         ///< the command line itself is wrong
  kInvalidInput,  ///< a file or value breaks its contract
  kInfeasible,    ///< the input is sound but asks for the impossible, e.g. a target time under T_min
  kLimit,         ///< a size limit is exceeded
  kClaimFalse,    ///< a plan claims something that its checker found to be untrue
  kOverflow,      ///< exact arithmetic would leave its range; never answered with a rounded guess
  kUnsupported,   ///< sound, but this version does not do it
  kNotFound,      ///< a file or device is absent
  kIo,            ///< the operating system refused to read or write
  kPermission,    ///< the caller has no right to it
  kBusy,          ///< somebody else holds it
  kDeviceLost,    ///< a GPU fell off the bus
  kDriver,        ///< a GPU driver failed in a way that may pass
  kTimeout,       ///< no answer within the deadline
  kInternal,      ///< a broken invariant of Perseus itself: a bug
};

/// One row of the error table: the only place where codes meet names and exit codes.
struct ErrorInfo {
  ErrorCode code;
  std::string_view name;     ///< stable, snake_case; used in JSON and logs
  int exit_code;             ///< of the command line: 1 refused input, 2 usage, 3 environment
  std::string_view meaning;  ///< one sentence for the documentation
};

/// All rows, in the order of the enum.
[[nodiscard]] std::span<const ErrorInfo> error_table();
/// The row of `code`.
[[nodiscard]] const ErrorInfo& info(ErrorCode code);

/// Where a refused value came from. Lines and columns count from 1; 0 = not known.
struct Origin {
  std::string source;  ///< a path, a flag such as "--pp", or empty
  std::uint64_t line = 0;
  std::uint64_t column = 0;
};

/// A refusal. `message` names the value, the limit and what to do, without the origin.
class Error {
 public:
  Error(ErrorCode code, std::string message, Origin origin = {})
      : code_(code), message_(std::move(message)), origin_(std::move(origin)) {}

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  [[nodiscard]] const Origin& origin() const { return origin_; }
  /// "source:line:column: message"; parts that are not known are left out.
  [[nodiscard]] std::string text() const;
  /// The same error with another origin; for callers that know the file when a parser did not.
  [[nodiscard]] Error at(Origin origin) const { return {code_, message_, std::move(origin)}; }

 private:
  ErrorCode code_;
  std::string message_;
  Origin origin_;
};

/// Something worth telling that does not stop the work (a dominated measurement, say).
struct Warning {
  std::string message;
  Origin origin;
  /// As Error::text().
  [[nodiscard]] std::string text() const;
};

/// A value of type T or an Error; ignoring one is a compiler warning (an error in our builds).
template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

/// Success without a value.
using Status = Result<void>;

/// Short hand for `std::unexpected(Error(...))`.
[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, std::string message, Origin origin = {}) {
  return std::unexpected<Error>(Error(code, std::move(message), std::move(origin)));
}

}  // namespace perseus::core

#define PERSEUS_CONCAT_INNER(a, b) a##b
#define PERSEUS_CONCAT(a, b) PERSEUS_CONCAT_INNER(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses
/// Evaluates a Result; returns its error from the enclosing function or defines `decl` from its value.
#define PERSEUS_ASSIGN_OR_RETURN(decl, expression)                                \
  auto PERSEUS_CONCAT(result_, __LINE__) = (expression);                          \
  if (!PERSEUS_CONCAT(result_, __LINE__)) {                                       \
    return std::unexpected(std::move(PERSEUS_CONCAT(result_, __LINE__)).error()); \
  }                                                                               \
  decl = *std::move(PERSEUS_CONCAT(result_, __LINE__))
// NOLINTEND(bugprone-macro-parentheses)
/// Evaluates a Status; returns its error from the enclosing function.
#define PERSEUS_RETURN_IF_ERROR(expression)              \
  do {                                                   \
    if (auto status = (expression); !status) {           \
      return std::unexpected(std::move(status).error()); \
    }                                                    \
  } while (false)
