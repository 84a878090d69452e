#include <diffusion/tensor/state.hpp>

#ifndef EIGEN_OF_MY_OWN
#error "compiled with another Eigen than the one that the project has"
#endif

int main() {}
