// What every binding needs: arrays in and out, their alignment, and the interpreter's lock.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <new>

#include "ensemble.hpp"

namespace saddlescope {

namespace nb = nanobind;
using namespace nb::literals;

// A C-contiguous array of D axes; the shape of each stands in a comment beside its name.
template <class T, size_t D>
using Array = nb::ndarray<T, nb::ndim<D>, nb::c_contig, nb::device::cpu>;

// Lets other Python threads run while it lives.
class Unlocked {
 public:
  Unlocked();
  ~Unlocked();
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

// Arrays in use: NumPy also hands out views of odd addresses.
template <class... Arrays>
void require_aligned(const Arrays&... arrays) {
  const auto aligned = [](const auto& a) {
    return a.size() == 0 || reinterpret_cast<uintptr_t>(a.data()) % a.itemsize() == 0;
  };
  require((aligned(arrays) && ...), "arrays must be aligned to their numbers; copy them");
}

// A new array of zeros, and where its numbers are.
template <class T>
nb::ndarray<nb::numpy, T> fresh(std::initializer_list<size_t> shape, T*& data) {
  size_t size = 1;
  for (size_t extent : shape)
    if (__builtin_mul_overflow(size, extent, &size)) throw std::bad_alloc();
  data = new T[size]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<nb::numpy, T>(data, shape, owner);
}

// One file a family.
void bind_networks(nb::module_& m);
void bind_modes(nb::module_& m);
void bind_streams(nb::module_& m);

}  // namespace saddlescope
