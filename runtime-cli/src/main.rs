mod sealed_exe; mod sys;
fn main() {
    match std::env::args().nth(1).as_deref() { Some("0") => {}, Some("x") => {sealed_exe::ensure().unwrap();
      println!("{:?} {:?} {}", std::fs::read_link("/proc/self/exe"), std::fs::OpenOptions::new().write(true).open("/proc/self/exe"), std::fs::read_to_string("/proc/self/comm").unwrap());
      for e in std::fs::read_dir("/proc/self/fd").unwrap() { let p = e.unwrap().path(); println!("{:?} {:?}", p, std::fs::read_link(&p)); }
    } _ => sealed_exe::ensure().unwrap() }
}
