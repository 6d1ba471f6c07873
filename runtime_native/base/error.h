// Errors of the native side: one exception type, with a code that scripts can match on.
//
//   throw Error("E-net-timeout", "no frame from P1 within 10 s", "step 17 of run 3");
//
// Nothing secret goes into an Error: no payload bytes, no shares, no keys. C functions at the
// boundary (mpcc.h, Python, TensorFlow) catch Error and turn it into their own form.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace mpcc {

class Error : public std::exception {
 public:
  // code: "E-" + area + "-" + reason, stable across versions. message: what happened, with values,
  // and what to do. where: the node, peer, step or file; may be empty.
  Error(std::string code, std::string message, std::string where = {});

  const std::string& code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& where() const noexcept { return where_; }

  // "code: message [where]"
  const char* what() const noexcept override { return text_.c_str(); }

  // The same error seen from further out: "outer > where". Used when a layer knows more about the
  // place (a graph node) than the layer that threw (a kernel).
  [[nodiscard]] Error within(std::string_view outer) const;

 private:
  std::string code_;
  std::string message_;
  std::string where_;
  std::string text_;
};

}  // namespace mpcc
