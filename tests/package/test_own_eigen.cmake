# A project that has a target Eigen3::Eigen keeps it, with the library from the tree and installed.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

make_project(own_eigen)
foreach(from_tree ON OFF)
  build_project(-D EIGEN_INCLUDE=${EIGEN_INCLUDE} -D FROM_TREE=${from_tree}
                -D CMAKE_PREFIX_PATH=${PREFIX})
endforeach()
