# As much of python3-libmount, which Debian has not, as crun's tests use.
class Entry:
    def __init__(self, line):
        left, right = line.split(" - ", 1)
        fields = left.split()
        self.target, self.vfs_options = fields[4], fields[5]
        self.fs_options = right.split()[2]

class Table:
    def __init__(self, path):
        with open(path) as lines:
            self.entries = [Entry(line) for line in lines if " - " in line]

    def find_target(self, target):
        return next((entry for entry in reversed(self.entries) if entry.target == target), None)
