# Helpers used by every folder's CMakeLists.txt.
#
#   mpcc_library(mpcc_ring SOURCES a.cc b.cc DEPS mpcc_base)
#   mpcc_isa_sources(avx2 gemm/avx2.cc)          flags for one instruction set, on these files only
#   mpcc_test(ring SOURCES test.cc DEPS mpcc_ring)    -> executable mpcc_test_ring, ctest name "ring"
#   mpcc_bench(ring_bench SOURCES bench.cc DEPS mpcc_ring)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

add_library(mpcc_options INTERFACE)
target_compile_options(mpcc_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                              -Wno-sign-conversion)
# Instrumented code makes gcc warn of what cannot happen; the ordinary build is the strict one.
if(MPCC_WERROR AND NOT MPCC_SANITIZE)
  target_compile_options(mpcc_options INTERFACE -Werror)
endif()
if(MPCC_SANITIZE)
  add_compile_options(-fsanitize=${MPCC_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MPCC_SANITIZE})
  # Out of range in a container is a finding as well.
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()
target_include_directories(mpcc_options INTERFACE "${PROJECT_SOURCE_DIR}")

# Everything that CTest runs.
add_custom_target(mpcc_checks)

function(mpcc_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  # The include root travels with the library; the warning flags stay private to our own code.
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE $<BUILD_INTERFACE:mpcc_options>)
endfunction()

set(MPCC_FLAGS_avx2 -mavx2 -mbmi2)
set(MPCC_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl ${MPCC_FLAGS_avx2})
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc's own AVX-512 headers pass deliberately undefined registers and warn about it (PR 105593).
  list(APPEND MPCC_FLAGS_avx512 -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
set(MPCC_FLAGS_amx -mamx-tile -mamx-int8 ${MPCC_FLAGS_avx512})
set(MPCC_FLAGS_aesni -maes -msse4.1)
set(MPCC_FLAGS_vaes256 -mvaes -maes ${MPCC_FLAGS_avx2})
set(MPCC_FLAGS_vaes512 -mvaes -maes ${MPCC_FLAGS_avx512})

function(mpcc_isa_sources isa)
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS ${MPCC_FLAGS_${isa}})
endfunction()

# A shared library neither exports what it has linked statically nor lets other libraries of the process
# take its place.
function(mpcc_hide_dependencies name)
  target_link_options(${name} PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:-Bsymbolic")
endfunction()

function(mpcc_test name)
  if(NOT MPCC_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(mpcc_test_${name} ${ARG_SOURCES})
  target_link_libraries(mpcc_test_${name} PRIVATE ${ARG_DEPS} mpcc_testing mpcc_options)
  add_dependencies(mpcc_checks mpcc_test_${name})
  add_test(NAME ${name} COMMAND mpcc_test_${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

function(mpcc_bench name)
  if(NOT MPCC_BUILD_BENCH)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} mpcc_options)
endfunction()
