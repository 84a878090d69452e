#ifndef DIFFUSION_TENSOR_DEVICE_HPP
#define DIFFUSION_TENSOR_DEVICE_HPP

#include <cstddef>
#include <memory>
#include <type_traits>

namespace diffusion {

/// A device of your own: anything that can split [0, n) into ranges of at least `grain` elements
/// and call f(begin, end) for each, possibly in parallel, and returns when all are done.
template <class D>
concept Device = requires(D& device, std::size_t n, void (*f)(std::size_t, std::size_t)) {
  device.parallel_for(n, n, f);
};

/// A reference to a device, cheap to copy; the default runs everything on the calling thread.
/// Two pointers and one indirect call a stage, so that options need no template parameter.
class DeviceRef {
 public:
  DeviceRef() = default;
  // clang-format off: version 14 does not know requires clauses
  template <Device D>
  requires(!std::is_same_v<std::remove_cv_t<D>, DeviceRef> && !std::is_const_v<D>)
      DeviceRef(D& device)  // NOLINT(google-explicit-constructor)
      : device_(std::addressof(device)),
        run_([](void* d, std::size_t n, std::size_t grain, const Body& body) {
          static_cast<D*>(d)->parallel_for(n, grain, body);
        }) {}
  // clang-format on

  /// Calls f(begin, end) on ranges that cover [0, n). Without a device: f(0, n).
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, const F& f) const {
    if (!device_) return f(std::size_t{0}, n);
    const Body body{&f, [](const void* context, std::size_t begin, std::size_t end) {
                      (*static_cast<const F*>(context))(begin, end);
                    }};
    run_(device_, n, grain, body);
  }

 private:
  struct Body {
    const void* context;
    void (*call)(const void*, std::size_t, std::size_t);
    void operator()(std::size_t begin, std::size_t end) const { call(context, begin, end); }
  };
  void* device_ = nullptr;
  void (*run_)(void*, std::size_t, std::size_t, const Body&) = nullptr;
};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_DEVICE_HPP
