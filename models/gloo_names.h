// Names of Gloo that torch's header of its process group over Gloo mentions. Packages of torch hold Gloo's code and not
// its headers, so CMake makes files of Gloo's names that include this one. Nothing here has a layout that counts: torch
// holds all of it behind pointers, and its own library makes and calls it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {
/// The base of a class that only torch's library makes; its functions, since that class overrides them.
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string &key, const std::vector<char> &data) = 0;
  virtual std::vector<char> get(const std::string &key) = 0;
  virtual void wait(const std::vector<std::string> &keys) = 0;
  virtual void wait(const std::vector<std::string> &keys, const std::chrono::milliseconds &timeout) = 0;
};
}  // namespace rendezvous

}  // namespace gloo
